"""Whatever breaks, readers are told nothing false, and everybody has a right verdict soon after.

`pytest --log-cli-level=INFO tests/chaos` tells what readers saw and how long each healing took.
"""

from __future__ import annotations

import logging

import pytest

from tests.chaos import faults
from tests.chaos.faults import Fault
from tests.chaos.rig import Rig

log = logging.getLogger(__name__)

SHORT: dict[str, Fault] = {
    "a check process is killed": faults.check_process_killed,
    "a machine of checks is killed": faults.machine_killed("checks-a"),
    "beat is killed": faults.restarted("beat"),
    "redis is killed": faults.redis_killed,
    "redis is replaced by an empty one": faults.redis_replaced_by_an_empty_one,
    "redis is slow": faults.line_slow,
    "connections are half-open": faults.line_half_open,
}
LONG: dict[str, Fault] = {
    "redis is read-only": faults.redis_read_only,
    "beat is frozen": faults.frozen("beat"),
    "a check process is frozen": faults.check_process_frozen,
    "the parent of check processes is killed": faults.parent_killed,
    "a machine of checks is frozen": faults.frozen("checks-a", until=None),
    "all machines of checks are frozen": faults.frozen("checks-a", "checks-b"),
    "all machines of checks are restarted": faults.restarted("checks-a"),
    "dispatch is frozen": faults.frozen("dispatch"),
    "dispatch is killed": faults.restarted("dispatch"),
    "the publisher is frozen": faults.frozen("publish", until=None),
    "the publisher is killed": faults.machine_killed("publish"),
    "the pushgateway is frozen": faults.frozen("pushgateway", until=None),
    "the pushgateway is killed": faults.restarted("pushgateway"),
    "redis is frozen": faults.redis_frozen,
    "redis is flushed": faults.redis_flushed,
    "redis is set back": faults.redis_set_back,
    "redis is loading": faults.redis_loading,
    "redis is out of memory": faults.redis_set("maxmemory", 1),
    "redis has lost its replicas": faults.redis_set("min-replicas-to-write", 1),
    "connections are cut": faults.line_cut,
    "connections flicker": faults.line_flickering,
}


@pytest.mark.parametrize("name", SHORT)
def test_it_heals(rig: Rig, name: str) -> None:
    heals(rig, name, SHORT[name])


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_it_heals_from_the_rarer(rig: Rig, name: str) -> None:
    heals(rig, name, LONG[name])


def heals(rig: Rig, name: str, fault: Fault) -> None:
    before = rig.survivors()
    with rig.broken(), fault(rig):
        pass
    died = before - rig.survivors()
    seconds = rig.heals()
    if "publish" in rig.survivors():
        rig.publishes()
    log.info("%s: readers saw %s; healed in %.1f s; gone: %s", name, dict(rig.watch.seen), seconds, died)
