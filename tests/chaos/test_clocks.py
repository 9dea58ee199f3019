"""The wall clock of a machine jumps, and is another than that of the others; libfaketime plays it.

https://github.com/wolfcw/libfaketime
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.rig import Rig, eventually
from tests.fixtures_prometheus import binary

log = logging.getLogger(__name__)

LIBRARIES = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
JUMPS = ("+3600", "-3600")
"""Seconds by which a clock differs from the true one."""


@pytest.fixture
def clock(rig: Rig) -> Iterator[Path]:
    """The file whose content is the jump; every process ends with its usual clock."""
    binary("faketime", "faketime")
    path = rig.directory / "clock"
    path.write_text("+0")
    yield path
    path.write_text("+0")


def faked(clock: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.mark.long
@pytest.mark.parametrize("jump", JUMPS)
def test_the_clock_of_a_machine_of_checks_jumps(rig: Rig, clock: Path, jump: str) -> None:
    """It differs from all others then: nobody misses a check for it."""
    role = "checks-a"
    with rig.broken():
        rig.kill(role)
        rig.run(role, **faked(clock))
        eventually(f"{role} is ready", lambda: rig.is_ready(role))
    rig.heals()
    with rig.broken():
        clock.write_text(jump)
    log.info("the clock of %s at %s: healed in %.1f s", role, jump, rig.heals())
    rig.watch.expect_new()
    rig.watch.calm()
    rig.heals()
    rig.kill(role)
