"""When a batch leaves its checks alone: for stragglers and hosts that hang, and for nobody else."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from registry.health import Fault, Reason, Verdict
from registry.ids import Pair
from registry.recording import Outcome
from registry.schedule import Scheduled, Task
from worker.lanes import STILL, Found, Lanes
from worker.places import Places

LONG = 60.0
"""Seconds that no test waits for."""

SHORT = 0.05
"""Seconds after which the hosts of these tests hang."""


def task(tenant: str) -> Task:
    return Task(Scheduled(Pair("plugin", tenant), 1, None), None, 1)


def answer(task: Task, endpoint: str) -> Outcome:
    return Outcome(task, Verdict(Reason.OK, Fault.NONE, 0), endpoint)


class Vendors:
    """Hosts: ``dead`` never answers, ``slow`` takes longer than a batch waits, any other answers."""

    def __init__(self, places: int, patience: float = LONG) -> None:
        self.hosts: defaultdict[str, Places] = defaultdict(lambda: Places(places, patience))
        self.revived = asyncio.Event()

    async def check(self, task: Task, endpoint: str) -> Found:
        if endpoint == "dead":
            await self.revived.wait()
        if endpoint == "slow":
            await asyncio.sleep(1.2 * STILL)
        return answer(task, endpoint)

    @asynccontextmanager
    async def lanes(self, **endpoints: int) -> AsyncIterator[Lanes]:
        """The lanes of a batch with so many pairs at each endpoint."""
        tasks = [(name, task(f"{name}-{number}")) for name, many in endpoints.items() for number in range(many)]
        lanes = Lanes(tasks, self.hosts, self.check)
        try:
            yield lanes
        finally:
            await lanes.stop()


def free() -> bool:
    return True


async def test_a_straggler_is_left_alone_and_found_when_it_ends() -> None:
    vendors = Vendors(places=5)
    async with vendors.lanes(live=10, dead=1) as lanes:
        await lanes.settle(LONG, free)
        assert (len(lanes.harvest()), lanes.open) == (10, 1)
        vendors.revived.set()
        await lanes.run(LONG)
        assert (len(lanes.harvest()), lanes.done) == (1, True)


async def test_who_waits_for_a_place_at_a_slow_host_is_waited_for() -> None:
    async with Vendors(places=2).lanes(slow=5, live=5) as lanes:
        await lanes.settle(LONG, free)
        lanes.shut()
        assert not [found for found in lanes.harvest() if isinstance(found, Task)], "nobody is handed back"


async def test_who_waits_for_a_place_at_a_host_that_hangs_is_not_waited_for() -> None:
    vendors = Vendors(places=2, patience=SHORT)
    async with vendors.lanes(dead=6, live=3) as lanes:
        await lanes.settle(LONG, free)
        assert (len(lanes.harvest()), lanes.open) == (3, 6)
        lanes.shut()
        assert {found.pair for found in lanes.harvest() if isinstance(found, Task)} == {
            Pair("plugin", f"dead-{number}") for number in range(2, 6)
        }
        assert lanes.open == 2, "they are checked on"


async def test_another_batch_finds_no_place_at_a_host_that_hangs_and_leaves_nothing_behind() -> None:
    vendors = Vendors(places=2, patience=SHORT)
    async with vendors.lanes(dead=2) as first:
        await first.settle(LONG, free)
        async with vendors.lanes(dead=4, live=3) as second:
            await second.settle(LONG, free)
            second.shut()
            assert (len(second.harvest()), second.open, second.done) == (7, 0, True)


async def test_a_host_that_answers_again_is_waited_for_again() -> None:
    vendors = Vendors(places=1, patience=SHORT)
    async with vendors.lanes(dead=2) as lanes:
        await lanes.settle(LONG, free)
        lanes.shut()
        vendors.revived.set()
        await lanes.run(LONG)
    assert not vendors.hosts["dead"].hang
    async with vendors.lanes(dead=4) as lanes:
        await lanes.settle(LONG, free)
        assert lanes.done


async def test_where_too_much_is_left_behind_a_batch_waits_on() -> None:
    vendors, answers = Vendors(places=5), [False, False, True]
    async with vendors.lanes(dead=1) as lanes:
        await lanes.settle(LONG, lambda: answers.pop(0))
        assert answers == []


async def test_patience_ends_whatever_waits() -> None:
    async with Vendors(places=2).lanes(dead=6) as lanes:
        await lanes.settle(SHORT, lambda: False)
        assert lanes.open == 6


async def test_deadlines_that_free_places_are_no_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("worker.places.steady", lambda: now)
    places = Places(1, 2.0)
    await places.gate.acquire()
    began = places.begin()
    now += 2.5
    assert places.hang
    now += 7.5
    places.end(began)
    began = places.begin()  # the next one takes the place that a deadline has freed
    assert places.hang
    now += 0.5
    places.end(began)
    assert not places.hang
