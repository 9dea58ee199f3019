"""Everything the README tells to type or to write is done here."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from registry.facade import ConnectorRegistry
from registry.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def environment(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The tests' own servers and store, as environment variables, in an empty directory."""
    given = {
        "REDIS_URL": settings.redis_url,
        "BROKER_URL": settings.broker_url,
        "SQLITE_PATH": str(settings.sqlite_path),
        "SECRETS_DIR": str(settings.secrets_dir),
        "ENCRYPTION_KEYS": settings.encryption_keys[0].get_secret_value(),
        "READ_TIMEOUT": "2",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return {**os.environ, **given}


def connectors(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("connectors")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_reader_snippet_runs(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = blocks("python")
    exec(first, {"REDIS_URL": environment["REDIS_URL"]})  # noqa: S102 - that is what is tested
    assert "not_checked" in capsys.readouterr().out


async def test_the_registry_snippet_runs(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    _, second = blocks("python")
    function = f"async def snippet():\n{textwrap.indent(second, '    ')}\n    return registry\n"
    scope: dict[str, object] = {}
    exec(function, scope)  # noqa: S102 - that is what is tested
    snippet = scope["snippet"]
    assert callable(snippet)
    assert isinstance(await snippet(), ConnectorRegistry)
    assert "not_checked" in capsys.readouterr().out


def test_the_tenants_file_is_accepted(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = blocks("yaml")
    (tmp_path / "tenants.yaml").write_text(example)
    folder = Path(environment["SECRETS_DIR"]) / "acme"
    folder.mkdir(parents=True)
    for name in ("gitlab-token", "vertex.json"):
        (folder / name).write_text("a-secret")
    monkeypatch.setenv("CONNECTOR_SECRET_acme__GITHUB", "a-secret")
    told = re.search(r"^connectors (tenants import .*)$", README, re.MULTILINE)
    assert told is not None
    done = connectors(*told[1].split())
    assert done.returncode == 0, done.stderr
    for name in yaml.safe_load(example)["tenants"]["acme"]:
        assert name in done.stdout


def test_a_secret_that_is_missing_is_told_by_the_very_name_the_readme_gives(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (example,) = blocks("yaml")
    (tmp_path / "tenants.yaml").write_text(example)
    done = connectors("tenants", "import", "tenants.yaml")
    assert done.returncode == 2
    assert "CONNECTOR_SECRET_acme__GITHUB" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", re.findall(r"^\| `connectors (.*?)`", README, re.MULTILINE))
def test_every_command_of_the_table_exists_and_answers(environment: dict[str, str], command: str) -> None:
    done = connectors(*command.split())
    assert done.returncode in (0, 1, 2, 3), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Usage:" not in done.stderr, done.stderr


@pytest.mark.parametrize("target", ["run", "test"])
def test_the_two_commands_are_targets_of_the_makefile(target: str) -> None:
    assert f"make {target}" in README
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
