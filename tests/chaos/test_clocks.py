"""The wall clocks of machines jump, and differ; libfaketime plays it.

https://github.com/wolfcw/libfaketime
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.chaos.rig import Rig
from tests.fixtures_prometheus import binary
from tests.waiting import eventually

log = logging.getLogger(__name__)

LIBRARIES = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
JUMPS = ("+3600", "-3600", "+0")
"""Seconds by which a clock differs from the true one, one after the other."""

SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"
"""libfaketime takes what Python's own sleep passes, a time of the steady clock, for one of the wall clock."""

EVERYTHING = ("beat", "dispatch", "publish", "checks-a", "checks-b")
SHORT = {"the ticks' workers": ("dispatch", "publish"), "beat": ("beat",)}
LONG = {"a machine of checks": ("checks-a",), "everything": EVERYTHING}


@pytest.fixture
def clock(rig: Rig) -> Path:
    """The file whose content is the jump."""
    binary("faketime", "faketime")
    path = rig.directory / "clock"
    path.write_text("+0")
    (rig.directory / "sitecustomize.py").write_text(SLEEP)
    return path


def faked(clock: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "PYTHONPATH": str(clock.parent),
    }


@pytest.mark.parametrize("whose", SHORT)
def test_a_clock_jumps(rig: Rig, clock: Path, whose: str) -> None:
    jumps(rig, clock, whose, SHORT[whose])


@pytest.mark.long
@pytest.mark.parametrize("whose", LONG)
def test_more_clocks_jump(rig: Rig, clock: Path, whose: str) -> None:
    jumps(rig, clock, whose, LONG[whose])


def jumps(rig: Rig, clock: Path, whose: str, roles: tuple[str, ...]) -> None:
    """The roles begin with the true clock; then theirs differs from all others, in either direction."""
    for role in roles:
        with rig.broken():
            begin_faked(rig, role, clock)
        rig.heals()
    for jump in JUMPS:
        with rig.broken():
            clock.write_text(jump)
        seconds = rig.heals()
        work_goes_on(rig)
        log.info("%s: the clock at %s: readers saw %s; healed in %.1f s", whose, jump, dict(rig.watch.seen), seconds)
    rig.watch.trouble()
    for role in roles:
        rig.kill(role)


def begin_faked(rig: Rig, role: str, clock: Path) -> None:
    rig.kill(role)
    rig.run(role, **faked(clock))
    eventually(f"{role} is ready", lambda: rig.is_ready(role))


def work_goes_on(rig: Rig) -> None:
    """Everybody is checked once more, and every periodic task is done once more."""
    names = ("dispatch_ms", "publish_ms", "reconcile_ms", "detect_ms")
    before = [rig.fact(name) for name in names]
    rig.watch.expect_new()
    eventually("everybody is checked", lambda: not rig.watch.unhealed())
    eventually(f"{names} are new", lambda: all(rig.fact(name) != old for name, old in zip(names, before, strict=True)))
    rig.demand()
