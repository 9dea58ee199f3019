"""``connectors config``: trying a configuration out before it is written, and its schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry.settings import Settings
from worker.cli import main
from worker.demo.vendors import DemoVendors


@pytest.fixture
def environment(settings: Settings, script: DemoVendors, monkeypatch: pytest.MonkeyPatch) -> DemoVendors:
    """The command line's environment: the tests' Redis and store, and the demo vendors."""
    (key,) = settings.encryption_keys
    told = {
        "REDIS_URL": settings.redis_url,
        "SQLITE_PATH": str(settings.sqlite_path),
        "ENCRYPTION_KEYS": key.get_secret_value(),
        "EGRESS_ALLOW": "127.0.0.0/8",
        "SHARDS": str(settings.shards),
        "VENDOR_URLS": json.dumps({name: f"{script.url}/{name}" for name in ("github", "slack")}),
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(settings.sqlite_path.parent)
    return script


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def document(directory: Path, token: str) -> str:
    path = directory / "github.yaml"
    path.write_text(f"auth: {{type: bearer, token: {token}}}\nsettings: {{required_scopes: [repo]}}\n")
    return str(path)


def test_what_works_is_written_after_its_test(
    environment: DemoVendors, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = document(tmp_path, "ghp_demo_acme-01")
    assert run("config", "set", "github", file, "--tenant", "acme-01", "--test") == 0
    told = capsys.readouterr()
    assert "quota" in told.out, "every step is shown"
    assert "stored github of tenant acme-01 as revision 1" in told.out
    assert "ghp_demo" not in told.out + told.err


@pytest.mark.parametrize(("fault", "code"), [("revoked", 1), ("missing_scope", 1), ("error_503", 1)])
def test_what_does_not_work_is_not_written(
    environment: DemoVendors, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, code: int
) -> None:
    environment.script.set("acme-01", "github", fault)
    file = document(tmp_path, "ghp_demo_acme-01")
    assert run("config", "set", "github", file, "--tenant", "acme-01", "--test") == code
    assert "nothing was written" in capsys.readouterr().err
    assert run("config", "get", "github", "--tenant", "acme-01") == 2


def test_the_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "schema", "vertex") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["settings"]["required"] == ["project", "location"]
    assert run("config", "schema", "nonsense") == 2
