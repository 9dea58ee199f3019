"""The systemd units are accepted by systemd's own check, run what the Procfile runs, and confine it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops.rules import ROOT
from tests.test_compose import processes

UNITS = ROOT / "ops/systemd"
PROCESSES = {
    "beat": "connectors-beat.service",
    "worker-dispatch": "connectors-worker@dispatch.service",
    "worker-checks": "connectors-worker@checks.service",
    "worker-publish": "connectors-worker@publish.service",
    "metrics": "connectors-metrics.service",
    "api": "connectors-api.service",
}
"""The Procfile's processes, and their units."""


def value(unit: str, name: str) -> str:
    """The last word on `name`: the unit's own, or that of its drop-ins."""
    template = re.sub(r"@.*\.", "@.", unit)
    files = [UNITS / template, *(UNITS / f"{unit}.d").glob("*.conf")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line.startswith(f"{name}=")][-1].removeprefix(f"{name}=")


@pytest.fixture
def systemd_analyze() -> str:
    """The program; where it is missing the test is skipped on a laptop and fails in CI."""
    path = shutil.which("systemd-analyze")
    if path is None:
        message = "no systemd-analyze: install it with `apt-get install systemd`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they are installed, but with this environment's programs."""
    units = tmp_path / "units"
    shutil.copytree(UNITS, units)
    for unit in units.glob("*.service"):
        text = unit.read_text(encoding="utf-8")
        unit.write_text(text.replace("/opt/connectors/bin", str(Path(sys.executable).parent)), encoding="utf-8")
    return units


def analyzed(program: str, installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{installed}:"}
    return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("unit", [*PROCESSES.values(), "connectors.target"])
def test_systemd_has_no_complaint(unit: str, installed: Path, systemd_analyze: str) -> None:
    if "@" in unit:
        shutil.copy(installed / "connectors-worker@.service", installed / unit)
    done = analyzed(systemd_analyze, installed, "verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "unit",
    ["connectors-beat.service", "connectors-worker@.service", "connectors-metrics.service", "connectors-api.service"],
)
def test_systemd_calls_a_unit_well_confined(unit: str, installed: Path, systemd_analyze: str) -> None:
    """Levels are tenths: 0 is a closed cell, 100 a root shell; systemd itself calls less than 30 OK."""
    done = analyzed(systemd_analyze, installed, "security", "--offline=yes", "--threshold=20", "--no-pager", unit)
    assert done.returncode == 0, done.stdout[-500:]


@pytest.mark.parametrize("name", PROCESSES)
def test_a_unit_runs_what_the_procfile_runs(name: str) -> None:
    unit = PROCESSES[name]
    command = value(unit, "ExecStart").removeprefix("/opt/connectors/bin/")
    queue = unit.partition("@")[2].removesuffix(".service")
    command = command.replace("%i", queue).replace("%%", "%")
    if "${CONCURRENCY}" in command:
        command = command.replace("${CONCURRENCY}", value(unit, "Environment").removeprefix("CONCURRENCY="))
    assert command == processes()[name]


def test_the_target_wants_every_process() -> None:
    text = (UNITS / "connectors.target").read_text(encoding="utf-8")
    assert sorted(word for line in re.findall(r"^Wants=(.*)$", text, re.MULTILINE) for word in line.split()) == sorted(
        PROCESSES.values()
    )
