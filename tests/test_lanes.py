"""When a batch leaves its checks alone: for stragglers and hosts that hang, and for nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from registry.clock import steady
from registry.health import Fault, Reason, Verdict
from registry.ids import Pair
from registry.recording import Outcome
from registry.schedule import Scheduled, Task
from tests.waiting import reached
from worker.lanes import STILL, Found, Lanes
from worker.places import FEW, Hosts, Places

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
        self.hosts = Hosts(places, patience, LONG)
        self.revived = asyncio.Event()

    async def check(self, task: Task, endpoint: str) -> Found:
        if endpoint == "dead":
            await self.revived.wait()
        if endpoint == "slow":
            began = steady()
            await reached("an answer later than a batch waits", lambda: steady() - began > STILL)
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


async def test_a_straggler_is_left_alone_and_found_when_it_ends() -> None:
    vendors = Vendors(places=5)
    async with vendors.lanes(live=10, dead=1) as lanes:
        await lanes.settle(LONG)
        assert (len(lanes.harvest()), lanes.open) == (10, 1)
        vendors.revived.set()
        await lanes.run(LONG)
        assert (len(lanes.harvest()), lanes.done) == (1, True)


async def test_who_waits_for_a_place_at_a_slow_host_is_waited_for() -> None:
    async with Vendors(places=2).lanes(slow=5, live=5) as lanes:
        await lanes.settle(LONG)
        lanes.shut()
        assert not [found for found in lanes.harvest() if isinstance(found, Task)], "nobody is handed back"


async def test_who_waits_for_a_place_at_a_host_that_hangs_is_not_waited_for() -> None:
    vendors = Vendors(places=2, patience=SHORT)
    async with vendors.lanes(dead=6, live=3) as lanes:
        await lanes.settle(LONG)
        assert (len(lanes.harvest()), lanes.open) == (3, 6)
        lanes.shut()
        assert {found.pair for found in lanes.harvest() if isinstance(found, Task)} == {
            Pair("plugin", f"dead-{number}") for number in range(2, 6)
        }
        assert lanes.open == 2, "they are checked on"


async def test_another_batch_finds_no_place_at_a_host_that_hangs_and_leaves_nothing_behind() -> None:
    vendors = Vendors(places=2, patience=SHORT)
    async with vendors.lanes(dead=2) as first:
        await first.settle(LONG)
        async with vendors.lanes(dead=4, live=3) as second:
            await second.settle(LONG)
            second.shut()
            assert (len(second.harvest()), second.open, second.done) == (7, 0, True)


async def test_a_host_that_answers_again_is_waited_for_again() -> None:
    vendors = Vendors(places=1, patience=SHORT)
    async with vendors.lanes(dead=2) as lanes:
        await lanes.settle(LONG)
        lanes.shut()
        vendors.revived.set()
        await lanes.run(LONG)
    assert not vendors.hosts["dead"].hang
    async with vendors.lanes(dead=4) as lanes:
        await lanes.settle(LONG)
        assert lanes.done


async def test_patience_ends_whatever_waits() -> None:
    async with Vendors(places=2).lanes(dead=6) as lanes:
        await lanes.settle(SHORT)
        assert lanes.open == 6


async def test_a_host_that_needs_longer_than_a_batch_waits_is_no_host_that_hangs() -> None:
    vendors = Vendors(places=2, patience=SHORT)
    async with vendors.lanes(slow=2) as lanes:
        await lanes.run(LONG)
    assert (vendors.hosts["slow"].room, vendors.hosts.rooms()) == (None, {})


@pytest.mark.parametrize("reason", [Reason.MISCONFIGURED, Reason.SECRET_UNAVAILABLE, Reason.MONITOR_ERROR])
async def test_what_ends_without_having_asked_a_host_is_no_answer_of_it(reason: Reason) -> None:
    hosts = Hosts(2, LONG, LONG)

    async def check(task: Task, endpoint: str) -> Found:
        return Outcome(task, Verdict(Reason.TIMEOUT, Fault.NONE, 0), endpoint)

    async def unasked(task: Task, endpoint: str) -> Found:
        return Outcome(task, Verdict(reason, Fault.NONE, 0), endpoint)

    async def turned_back(task: Task, endpoint: str) -> Found:
        return task

    for how in (*[check] * FEW, unasked, turned_back):
        await Lanes([("dead", task("dead"))], hosts, how).run(LONG)
    assert hosts.rooms() == {"dead": 2}


class Clock:
    """The time, for whoever cannot wait for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("worker.places.steady", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def taken(places: Places) -> float:
    await places.gate.acquire()
    return places.begin()


def freed(places: Places, began: float, *, answered: bool | None) -> None:
    places.end(began, answered=answered)
    places.gate.release()


async def test_deadlines_that_free_places_are_no_answers(clock: Clock) -> None:
    places = Places(3, 2.0, 8.0)
    began = [await taken(places) for _ in range(3)]
    clock.now += 2.5
    assert places.room == 0
    clock.now += 7.5
    for moment in began:
        freed(places, moment, answered=False)
    assert places.room == 3
    began = [await taken(places) for _ in range(3)]  # the next ones have the places that deadlines have freed
    assert places.room == 0
    clock.now += 0.5
    freed(places, began[0], answered=True)
    assert places.room is None


async def test_deadlines_here_and_there_make_no_host_silent(clock: Clock) -> None:
    """Of one tenant's checks, at a host that answers all others."""
    places = Places(FEW + 1, 2.0, 8.0)
    for _ in range(FEW):
        began = await taken(places)
        clock.now += 10.0
        freed(places, began, answered=False)
    assert places.room is None
    for _ in range(FEW + 1):
        await taken(places)
    assert not places.hang, "they have only just begun"


async def test_a_slow_host_is_given_twice_the_time_it_took(clock: Clock) -> None:
    places = Places(1, 2.0, 8.0)
    began, rooms = await taken(places), list[int | None]()
    for seconds in (3.0, 5.0, 1.5):
        clock.now += seconds
        rooms.append(places.room)
        if seconds == 3.0:
            freed(places, began, answered=True)
            await taken(places)
    assert rooms == [0, None, 0]


async def test_but_not_so_long_that_its_deadlines_come_first(clock: Clock) -> None:
    places = Places(1, 2.0, 5.0)
    began = await taken(places)
    clock.now += 9.0
    freed(places, began, answered=True)
    await taken(places)
    clock.now += 5.5
    assert places.room == 0


async def test_what_is_not_to_be_remembered_is_forgotten() -> None:
    hosts = Hosts(1, LONG, LONG)
    for name in ("idle", "silent", "busy"):
        assert hosts[name] is hosts[name]
    for _ in range(FEW):
        freed(hosts["silent"], await taken(hosts["silent"]), answered=False)
    answers = asyncio.Event()

    async def check(task: Task, endpoint: str) -> Found:
        await answers.wait()
        return answer(task, endpoint)

    lanes = Lanes([("busy", task("busy"))], hosts, check)
    hosts.tidy()  # no lane has taken its first step yet
    assert len(hosts) == 2
    answers.set()
    await lanes.run(LONG)
    hosts.tidy()
    assert hosts.rooms() == {"silent": 1}
    assert len(hosts) == 1


async def test_a_lane_that_never_took_a_step_is_forgotten_too() -> None:
    hosts = Hosts(1, LONG, LONG)

    async def check(task: Task, endpoint: str) -> Found:
        return answer(task, endpoint)

    await Lanes([("host", task("one"))], hosts, check).stop()
    hosts.tidy()
    assert len(hosts) == 0
