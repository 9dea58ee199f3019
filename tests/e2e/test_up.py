"""``connectors up --demo`` with real processes: it shows, it turns, it heals, it ends."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psutil
import pytest
from dotenv import dotenv_values
from prometheus_client.parser import text_string_to_metric_families

from registry import HealthView
from registry.settings import Settings
from tests.fixtures_prometheus import binary, fetched
from tests.ops.rules import ROOT
from tests.waiting import WAIT, eventually
from worker.local.leftovers import MARK

TENANTS = ("acme-01", "acme-02")
CONNECTORS = ("github", "gitlab", "linear", "slack", "vertex")
PACE = {
    "CHECK_INTERVAL": "2",
    "CONFIRM_DELAY": "1",
    "BACKOFF_MAX": "2",
    "FRESH_GRACE": "4",
    "CLAIM_LEASE": "5",
    "PUBLISH_EVERY": "1",
    "RECONCILE_EVERY": "2",
}


@dataclass
class System:
    """A running `connectors up` in a directory of its own."""

    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def env(self) -> dict[str, str]:
        return {name: value for name, value in dotenv_values(self.directory / ".run" / "env").items() if value}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "worker.cli", *arguments],
            cwd=self.directory,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def view(self) -> HealthView:
        return HealthView(self.env["REDIS_URL"], timeout=2.0)

    def shown(self) -> str:
        return (self.directory / "out").read_text()

    def play(self, tenant: str, connector: str, fault: str) -> None:
        base = json.loads(self.env["VENDOR_URLS"])["github"].removesuffix("/github")
        body = json.dumps({"fault": fault}).encode()
        address = urlsplit(base)
        control = HTTPConnection(str(address.hostname), address.port, timeout=5)
        control.request("POST", f"/control/{tenant}/{connector}", body)
        assert control.getresponse().status == 200
        control.close()

    def pushed(self, tenant: str, connector: str) -> float | None:
        page = fetched(f"{self.env['PUSHGATEWAY_URL']}/metrics")
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                wanted = (sample.labels.get("tenant_id"), sample.labels.get("connector")) == (tenant, connector)
                if sample.name == "registry_connector_health" and wanted:
                    return sample.value
        return None

    def processes(self) -> dict[str, int]:
        rows = json.loads(self.run("status", "--json").stdout)["processes"]
        return {row["name"]: row["pid"] for row in rows}


def environment() -> dict[str, str]:
    """This environment without what it says about the system, at a pace for tests."""
    ours = {name.upper() for name in Settings.model_fields}
    return {name: value for name, value in os.environ.items() if name not in ours} | PACE


def started(directory: Path, tenants: int = len(TENANTS), /, **more: str) -> System:
    with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
        command = [sys.executable, "-m", "worker.cli", "up", "--demo", "--demo-tenants", str(tenants)]
        given = environment() | more
        return System(directory, subprocess.Popen(command, cwd=directory, env=given, stdout=out, stderr=err))


def left_behind(directory: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(directory / ".run"):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    binary("prometheus-pushgateway", "prometheus-pushgateway")
    running = started(tmp_path_factory.mktemp("up"))
    yield running
    if running.process.poll() is None:
        running.run("down")
        running.process.terminate()  # one that has only begun is not known to `down` yet
        running.process.wait()


def test_every_pair_is_checked_and_shown(system: System) -> None:
    eventually("the table", lambda: " healthy " in system.shown())
    for tenant in TENANTS:
        assert tenant in system.shown()
    wanted = {(tenant, name): "healthy" for tenant in (*TENANTS, None) for name in CONNECTORS}
    eventually("everybody healthy", lambda: healths(system) == wanted)  # on a busy machine a first check may be slow
    assert system.run("health").returncode == 0


def healths(system: System) -> dict[tuple[str | None, str], str]:
    rows = json.loads(system.run("health", "--json").stdout)
    return {(row["tenant_id"], row["connector"]): row["status"] for row in rows}


def test_a_second_up_says_that_it_runs_already(system: System) -> None:
    ran = system.run("up", "--demo")
    assert (ran.returncode, "runs here already" in ran.stderr) == (2, True)


def test_a_fault_turns_the_table_the_view_and_the_pushgateway_and_back(system: System) -> None:
    eventually("a first push", lambda: system.pushed("acme-01", "slack") == 1)
    with system.view() as view:
        system.play("acme-01", "slack", "revoked")
        eventually("the view turns", lambda: view.status("slack", "acme-01").reason == "credential_rejected")
        eventually("the gauge turns", lambda: system.pushed("acme-01", "slack") == 0)
        eventually("the screen turns", lambda: "acme-01 slack: unhealthy, credential_rejected" in system.shown())
        assert view.status("slack", "acme-02").healthy, "nobody else's"
        assert system.run("health", "--tenant", "acme-01", "--json").returncode == 1
        system.play("acme-01", "slack", "healthy")
        eventually("the view turns back", lambda: view.status("slack", "acme-01").healthy)
        eventually("the gauge turns back", lambda: system.pushed("acme-01", "slack") == 1)
        eventually("the screen turns back", lambda: "acme-01 slack: healthy, ok" in system.shown())


def test_the_doctor_finds_nothing(system: System) -> None:
    ran = system.run("doctor", "--json")
    assert [row for row in json.loads(ran.stdout) if not row["ok"]] == []


def test_what_the_page_of_the_api_tells_to_type_does_what_it_says(system: System) -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(snippets) == 4
    programs = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    typed = "\n".join(["set -eu", programs, *snippets]).replace("curl -s ", "curl -s --fail-with-body ")
    typed = typed.replace("curl -sN --max-time 2", "timeout 2 curl -sN").replace('/stream"', '/stream" || true')
    ran = subprocess.run(
        ["bash", "-c", typed], cwd=system.directory, env=environment(), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    for told in (
        '"tenant_id":"acme-01"',
        "crt_",
        "event: gap",
        '"revision":2',
        '"token":"enc://kept"',
        '"label":"main"',
    ):
        assert told in ran.stdout, told


def test_the_dashboards_address_is_shown_with_a_token_that_works(system: System) -> None:
    found = re.search(r"dashboard: +(http://\S+)/login#(crt_\S+)", system.shown())
    assert found is not None
    asked = Request(f"{found[1]}/v1/me", headers={"Authorization": f"Bearer {found[2]}"})  # noqa: S310 - the system's own
    with urlopen(asked, timeout=5) as answer:  # noqa: S310 - the system's own address
        assert json.load(answer)["role"] == "admin"
    assert stat.S_IMODE((system.directory / ".run/api-token").stat().st_mode) == 0o600


def test_it_heals_after_the_death_of_a_worker_child_of_beat_and_of_redis(system: System) -> None:
    before = system.processes()
    for child in psutil.Process(before["worker-checks"]).children():
        child.kill()
    for name in ("beat", "redis"):
        os.kill(before[name], signal.SIGKILL)
    killed_ms = time.time_ns() // 1_000_000
    with system.view() as view:

        def checked_anew() -> bool:
            statuses = [view.status(name, tenant) for tenant in TENANTS for name in CONNECTORS]
            for status in statuses:
                assert not status.healthy or (status.fresh_until_ms or 0) > status.read_ms, (
                    "never healthy past its time"
                )
            return all(status.healthy and (status.checked_ms or 0) > killed_ms for status in statuses)

        eventually("every pair is checked again", checked_anew)
    after = system.processes()
    assert None not in after.values()
    assert after["beat"] != before["beat"]
    assert after["redis"] != before["redis"]


def test_down_leaves_nothing_and_a_killed_up_does_not_hinder_the_next(system: System) -> None:
    assert system.run("down").returncode == 0
    assert system.process.wait(5) == 0
    assert left_behind(system.directory) == []
    run = system.directory / ".run"
    assert not [path for path in (run / "redis.sock", run / "supervisord.pid") if path.exists()]

    second = started(system.directory)
    eventually("supervisord runs", (run / "supervisord.pid").exists)
    second.process.kill()
    second.process.wait()
    assert left_behind(system.directory), "the children of a killed run live on"
    third = started(system.directory)
    eventually("the table", lambda: " healthy " in third.shown())
    third.process.send_signal(signal.SIGINT)
    assert third.process.wait(WAIT) == 0
    assert left_behind(system.directory) == []
