"""Connectors of other packages, really installed by pip: found, listed, checked; what is broken harms only itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiohttp import web

from registry.bootstrap import assemble
from registry.connectors import CONNECTORS
from registry.discovery import Discovery, discover
from registry.errors import ConnectorUnusable
from registry.facade import ConnectorRegistry
from registry.health import Reason
from registry.settings import Settings
from tests.fixtures_vendors import Serve

PLUGINS = Path(__file__).parent / "plugins"
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed both packages."""
    folder = tmp_path_factory.mktemp("site")
    pip("install", "--target", str(folder), str(PLUGINS / "acme_tracker"), str(PLUGINS / "acme_broken"))
    return folder


def pip(*arguments: str) -> None:
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", arguments[0], *offline, *arguments[1:]], check=True)


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process, with the packages on its path."""
    monkeypatch.syspath_prepend(site)
    return site


def run(site: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own that has the packages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), **more}
    return subprocess.run(
        [sys.executable, *command], env=environment, cwd=site, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(scope="session")
def listed(site: Path) -> dict[tuple[str, str], dict[str, str]]:
    """What `connectors list` says, by name and package."""
    done = run(site, "-m", "worker.cli", "list", "--json")
    assert done.returncode == 1, "something cannot be loaded"
    return {(row["name"], row["distribution"]): row for row in json.loads(done.stdout)}


Listed = Mapping[tuple[str, str], Mapping[str, str]]


def test_an_installed_connector_is_listed_with_its_package_and_its_deprecation(listed: Listed) -> None:
    row = listed["acme-tracker", "acme-tracker"]
    assert (row["version"], row["maturity"], row["error"]) == ("1.0.0", "deprecated", "")
    assert (row["until"], row["advice"]) == ("2027-06-30", "Use acme-tracker2.")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("broken", "cannot be imported from acme_broken:Broken: ModuleNotFoundError"),
        ("ended", "cannot be imported from acme_broken_ended:Ended: SystemExit"),
        ("old", "needs framework <0.0.9"),
        ("renamed", "calls itself something-else"),
        ("github", "several packages offer a connector github (connector-registry, acme-broken): set CONNECTOR_PINS"),
        ("No Name", "is not valid"),
    ],
)
def test_what_is_broken_is_listed_with_its_reason_and_the_rest_works(listed: Listed, name: str, told: str) -> None:
    assert told in listed[name, "acme-broken"]["error"]
    for builtin in CONNECTORS:
        assert listed[builtin, "connector-registry"]["error"] == ""


def test_the_kit_passes_on_the_installed_connector(site: Path, tmp_path: Path) -> None:
    own = PLUGINS / "acme_tracker" / "tests" / "test_conformance.py"
    (tmp_path / own.name).write_text(own.read_text())
    done = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "11 passed" in done.stdout


WRONG: Mapping[str, tuple[str, str, str]] = {
    "accepts_any_auth": ("super().validate(config)", "pass", "validate_refuses_other_auth_methods"),
    "raises": (
        "reveal(self.config.auth.token)",
        "str(1 / 0)",
        "a_refusal_never_raises_and_is_never_the_platforms_fault",
    ),
    "undeclared_step": (
        'session.step("auth")',
        'session.step("who")',
        "a_well_vendor_is_healthy_and_every_declared_step_is_reported",
    ),
    "missing_step": (
        'steps=("api", "auth")',
        'steps=("api", "auth", "more")',
        "a_well_vendor_is_healthy_and_every_declared_step_is_reported",
    ),
    "asks_elsewhere": ("{self.base_url}/me", "https://tracker.example.com/me", "the_configured_address_is_asked"),
    "no_version": ('version="1.0.0"', 'version="one"', "the_manifest_is_complete"),
    "blames_the_tenant": ("(401,)", "(401, 500)", "a_failing_vendor_is_the_vendors_fault"),
}
"""A fault, the change of the good connector that makes it, and the test of the kit that must find it."""


def test_the_kit_finds_what_is_wrong_with_a_connector(site: Path, tmp_path: Path) -> None:
    code = (PLUGINS / "acme_tracker" / "acme_tracker.py").read_text()
    kit = (PLUGINS / "acme_tracker" / "tests" / "test_conformance.py").read_text()
    for fault, (right, wrong, _) in WRONG.items():
        assert right in code
        (tmp_path / f"{fault}.py").write_text(code.replace(right, wrong))
        (tmp_path / f"test_{fault}.py").write_text(kit.replace("from acme_tracker", f"from {fault}"))
    tests = {f"test_{fault}.py::TestAcmeTracker::test_{test}" for fault, (_, _, test) in WRONG.items()}
    options = ("-q", "-rf", "-p", "no:cacheprovider", "--rootdir", str(tmp_path))
    done = run(site, "-m", "pytest", *options, *[str(tmp_path / test) for test in tests])
    failed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED ")}
    assert {name.rpartition("/")[2] for name in failed} == tests


async def test_an_installed_connector_checks_like_any_other(installed: Path, settings: Settings, serve: Serve) -> None:
    async def tracker(request: web.BaseRequest) -> web.Response:
        known = request.headers.get("X-Acme-Key") == "k-0123456789abcdef"
        return web.json_response({"user": "ann"}) if known else web.json_response({}, status=401)

    url = await serve(tracker)
    async with ConnectorRegistry(assemble(settings)) as registry:
        for token, reason in (("k-0123456789abcdef", Reason.OK), ("k-another", Reason.CREDENTIAL_REJECTED)):
            config = {"auth": {"type": "bearer", "token": token}, "base_url": url}
            await registry.set_config("acme-tracker", config, tenant_id="acme", actor="ann")
            status = await registry.health_check("acme-tracker", tenant_id="acme", max_age=0)
            assert status.reason is reason
        assert status.action == "Ask the tenant for a new ACME Tracker key."
        assert registry.get_version("acme-tracker") == "1.0.0"


async def test_a_broken_connector_harms_only_itself(installed: Path, settings: Settings) -> None:
    async with ConnectorRegistry(assemble(settings)) as registry:
        for name in ("broken", "ended", "renamed"):
            with pytest.raises(ConnectorUnusable):
                await registry.get_metadata(name)
        assert not await registry.is_compatible("old")
        assert (await registry.get_metadata("github")).title == "GitHub"
        assert (await registry.get_metadata("acme-tracker")).title == "ACME Tracker"


def owners(found: Discovery) -> dict[str, str]:
    return {name: offer.distribution for name, offer in found.offers.items()}


def test_a_pin_says_whose_a_name_is(installed: Path) -> None:
    assert "github" not in owners(discover(CONNECTORS)), "the built-in one keeps it"
    assert owners(discover(CONNECTORS, {"github": "Acme_Broken"}))["github"] == "acme-broken"
    kept = discover(CONNECTORS, {"github": "connector-registry"})
    assert kept.offers["github"].target == CONNECTORS["github"]
    assert not [refusal for refusal in kept.refused if refusal.name == "github"], "what is settled is no problem"


def test_a_pin_to_a_package_without_that_connector_is_told(installed: Path) -> None:
    (refusal,) = [row for row in discover(CONNECTORS, {"slack": "acme-tracker"}).refused if row.name == "slack"]
    assert "acme-tracker offers no connector slack" in refusal.reason


def test_two_packages_that_want_one_name_both_go_without(installed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other_tracker-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-tracker\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[connector_registry.connectors]\nacme-tracker = other:Tracker\n")
    sys.path.insert(0, str(tmp_path))
    try:
        found, pinned = discover(CONNECTORS), discover(CONNECTORS, {"acme-tracker": "other-tracker"})
    finally:
        sys.path.remove(str(tmp_path))
    assert "acme-tracker" not in owners(found)
    assert {row.distribution for row in found.refused if row.name == "acme-tracker"} == {
        "acme-tracker",
        "other-tracker",
    }
    assert owners(pinned)["acme-tracker"] == "other-tracker"


@pytest.mark.parametrize(("newest", "code"), [("1.0.0", 3), ("1.1.0", 1)])
def test_outdated_asks_the_index_that_pip_is_configured_with(
    site: Path, tmp_path: Path, newest: str, code: int
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "acme_tracker.py"):
        text = (PLUGINS / "acme_tracker" / name).read_text()
        (source / name).write_text(text.replace('version = "1.0.0"', f'version = "{newest}"'))
    pip("wheel", "--wheel-dir", str(tmp_path / "index"), str(source))
    configured = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index"), "PIP_CONFIG_FILE": os.devnull}
    done = run(site, "-m", "worker.cli", "outdated", "--json", **configured)
    rows = {row["distribution"]: row for row in json.loads(done.stdout)}
    tracker = rows["acme-tracker"]
    assert (tracker["installed"], tracker["newest"], tracker["outdated"]) == ("1.0.0", newest, newest != "1.0.0")
    assert "No matching distribution" in rows["connector-registry"]["problem"]
    assert done.returncode == code
