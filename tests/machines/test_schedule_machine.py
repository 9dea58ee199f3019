"""The schedule and the health cache against a simple model, while everything happens in the worst order.

Announcements of changes come late or twice, results come late, twice and out of order, from workers whose wall clocks
jump by an hour; Redis loses its data and is filled again from the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.cache import HealthCache
from registry.clock import SharedClock, steady
from registry.connector import BearerAuth, ConnectorConfig, SecretRef
from registry.health import Fault, HealthStatus, Reason, Verdict
from registry.ids import Pair
from registry.recording import Outcome
from registry.schedule import Task
from registry.settings import Settings
from registry.stores import StoredConfig
from tests.fixtures_redis import RedisServer

T = TypeVar("T")
PAIRS = [Pair("github", "acme"), Pair("slack", "acme")]
HOUR = 3600
Statuses: TypeAlias = dict[Pair, HealthStatus]


class Jumping:
    """The `time` module with a wall clock that jumps; the steady clock does not."""

    clock_gettime = staticmethod(time.clock_gettime)

    def __init__(self) -> None:
        self.ahead = 0

    def time_ns(self) -> int:
        """The wall clock."""
        return time.time_ns() + self.ahead * 10**9


@dataclass
class Model:
    """What is true of one pair. Order is counted in steps of the machine."""

    revision: int = 0
    """The newest revision that the schedule was told, of a configuration or a deletion."""
    config: ConnectorConfig | None = None
    """As scheduled; None when the pair is not."""
    floor: int = 0
    """Results of checks that began before this step come too late."""
    reason: Reason | None = None
    """Of the newest result that counts; None when there is none."""
    due: bool | None = False
    """May it be claimed now? None: perhaps."""
    turn: int = 0
    """Which of all the turns that were ever given it has."""
    version: int = 0
    """The newest that was read."""


@dataclass(frozen=True)
class Work:
    """A pair that some worker has, since `step`, held by its `turn`."""

    task: Task
    step: int
    turn: int


def config(credential: int, label: str) -> ConnectorConfig:
    return ConnectorConfig(auth=BearerAuth(token=SecretRef(f"env://TOKEN_{credential}")), label=label)


class ScheduleMachine(RuleBasedStateMachine):
    """Two workers, one store, one Redis."""

    pairs = st.sampled_from(PAIRS)
    workers = st.integers(0, 1)
    ago = st.integers(0, 3)
    """Which of the latest: 0 is the newest."""
    reasons = st.sampled_from([Reason.OK, Reason.CREDENTIAL_REJECTED])

    def __init__(self, server: RedisServer, configured: Settings, jumping: Jumping) -> None:
        super().__init__()
        with server.client() as client:
            client.flushall()
        jumping.ahead = 0
        self.server, self.settings, self.time = server, configured, jumping
        self.loop = asyncio.new_event_loop()
        self.keeper, *self.parts = [self.run(self.started()) for _ in range(3)]
        self.store, self.reconciler = self.keeper.store, self.keeper.reconciler
        self.models = {pair: Model() for pair in PAIRS}
        self.works: list[Work] = []
        self.told: list[StoredConfig] = []
        self.step = self.turns = 0
        self.run(self.reconciler.run())
        for pair in PAIRS:
            self.set_config(pair, 0, "a", late=False)

    def run(self, work: Awaitable[T]) -> T:
        self.step = getattr(self, "step", 0) + 1
        return self.loop.run_until_complete(work)

    async def started(self) -> Parts:
        parts = assemble(self.settings)
        await parts.schedule.read([])  # as every worker's first batch does, this asks Redis for the time
        return parts

    def teardown(self) -> None:
        for parts in (self.keeper, *self.parts):
            self.run(parts.aclose())
        self.loop.close()

    # What happens to configurations

    @rule(pair=pairs, credential=st.integers(0, 1), label=st.sampled_from("ab"), late=st.booleans())
    def set_config(self, pair: Pair, credential: int, label: str, *, late: bool) -> None:
        self.told.append(self.run(self.store.set_config(pair, config(credential, label), actor="test")))
        if not late:
            self.announce(0, 0)

    @precondition(lambda self: self.told)
    @rule(worker=workers, ago=ago)
    def announce(self, worker: int, ago: int) -> None:
        """The same change may be announced again, by anybody, after others."""
        stored = self.told[-1 - ago % len(self.told)]
        self.run(self.parts[worker].configurations.announce(stored))
        self.entered(stored)

    def entered(self, stored: StoredConfig) -> None:
        model = self.models[stored.pair]
        if stored.revision <= model.revision:
            return
        if model.config is None or model.config.auth != stored.config.auth:
            model.floor, model.reason = self.step, None
        model.revision, model.config, model.due = stored.revision, stored.config, True
        model.turn = self.turned()

    def turned(self) -> int:
        """A turn of its own."""
        self.turns += 1
        return self.turns

    @rule(pair=pairs)
    def delete_config(self, pair: Pair) -> None:
        if pair.connector not in self.run(self.store.list_connectors(pair.tenant)):
            return
        revision = self.run(self.store.delete_config(pair, actor="test"))
        self.run(self.keeper.schedule.remove(pair, revision))
        self.removed(pair, revision)

    def removed(self, pair: Pair, revision: int) -> None:
        model = self.models[pair]
        model.revision, model.config, model.reason, model.due = revision, None, None, False
        model.floor, model.turn = self.step, self.turned()

    @rule(worker=workers, pair=pairs)
    def rotate(self, worker: int, pair: Pair) -> None:
        self.run(self.parts[worker].schedule.rotate(pair))
        model = self.models[pair]
        if model.config is not None:
            model.floor, model.reason, model.due = self.step, None, True
            model.turn = self.turned()

    # What happens to checks

    @rule()
    def claim(self) -> None:
        """Both workers claim at once, as two dispatchers do."""
        tasks, taken = self.run(self.claimed())
        assert len(taken) == len(set(taken)), "claimed twice"
        for pair, model in self.models.items():
            if model.due is not None:
                assert (pair in taken) is model.due, f"{pair} is due: {model.due}, claimed: {pair in taken}"
            if pair in taken:
                model.due, model.turn = False, self.turned()
        self.works += [Work(task, self.step, self.models[task.pair].turn) for task in tasks]

    async def claimed(self) -> tuple[list[Task], list[Pair]]:
        claims = await asyncio.gather(*[parts.schedule.claim({"github": 9, "slack": 9}) for parts in self.parts])
        tasks = [task for one in claims for task in await self.keeper.schedule.read(one)]
        taken = [Pair(claim.connector, tenant) for one in claims for claim in one for tenant in claim.tenants]
        return [task for task in tasks if task.pair in PAIRS], [pair for pair in taken if pair in PAIRS]

    @rule(worker=workers, pair=pairs, at_once=st.none() | reasons)
    def on_demand(self, worker: int, pair: Pair, at_once: Reason | None) -> None:
        task = self.run(self.parts[worker].schedule.task(pair))
        assert (task is not None) is (self.models[pair].config is not None)
        if task is not None:
            self.works.append(Work(task, self.step, self.models[pair].turn))
            if at_once is not None:
                self.deliver(worker, 0, at_once)

    @rule(worker=workers, pair=pairs, credential=st.integers(0, 1), label=st.sampled_from("cd"), reason=reasons)
    def change_while_a_check_runs(self, worker: int, pair: Pair, credential: int, label: str, reason: Reason) -> None:
        self.on_demand(worker, pair, None)
        known = self.models[pair].config is not None
        self.set_config(pair, credential, label, late=False)
        if known:
            self.deliver(worker, 0, reason)

    @precondition(lambda self: self.works)
    @rule(worker=workers, ago=ago, reason=reasons)
    def deliver(self, worker: int, ago: int, reason: Reason) -> None:
        """The same result may be delivered again, by anybody, after others."""
        work = self.works[-1 - ago % len(self.works)]
        parts, pair, model = self.parts[worker], work.task.pair, self.models[work.task.pair]
        verdict = Verdict(reason, Fault.NONE if reason is Reason.OK else Fault.TENANT, parts.clock.now_ms())
        written = self.run(parts.recorder.record([Outcome(work.task, verdict, "github|api.github.com")]))
        counts = model.config is not None and work.step > model.floor
        assert (pair in written) is counts, f"{pair}: counts: {counts}, was written: {pair in written}"
        if counts:
            model.floor, model.reason = work.step, reason
            if work.turn == model.turn:  # else somebody gave it a turn since, and if that is sooner, it stands
                model.due = False
            model.turn = self.turned()

    @precondition(lambda self: self.works)
    @rule(worker=workers, ago=ago)
    def release(self, worker: int, ago: int) -> None:
        """What is held no more, since somebody else gave the pair another turn, is not handed back."""
        work = self.works[-1 - ago % len(self.works)]
        self.run(self.parts[worker].schedule.release([work.task.held]))
        model = self.models[work.task.pair]
        if work.turn == model.turn:
            model.due = None  # a worker's idea of now may be milliseconds ahead of Redis'
            model.turn = self.turned()

    # What happens to machines

    @rule(worker=workers, hours=st.sampled_from([-1, 1]))
    def restart_with_a_wrong_clock(self, worker: int, hours: int) -> None:
        self.time.ahead = hours * HOUR
        self.run(self.parts[worker].aclose())
        self.parts[worker] = self.run(self.started())

    @precondition(lambda self: self.step % 2 == 0)
    @rule()
    def lose_data(self) -> None:
        with self.server.client() as client:
            client.flushall()
        self.told.clear()  # nobody is paused for as long as it takes to fill a schedule again
        self.models = {pair: Model() for pair in PAIRS}

    @rule()
    def reconcile(self) -> None:
        lost = not self.run(self.parts[1].redis.exists(keys.epoch(0)))
        self.run(self.reconciler.run())
        page = self.run(self.store.list_pairs())
        there = {stored.pair: stored for stored in page.items if isinstance(stored, StoredConfig)}
        for pair, model in self.models.items():
            if pair in there and there[pair].revision > model.revision:
                self.entered(there[pair])
                model.due = None if lost else True

    # What always holds

    @invariant()
    def what_is_read_is_what_counts_and_never_healthy_past_its_time(self) -> None:
        filled, now, later = self.run(self.look())
        for pair, model in self.models.items():
            status = now[pair]
            nothing = Reason.NOT_CHECKED if model.config is not None or not filled else Reason.NOT_CONFIGURED
            if model.config is None and model.revision:
                nothing = Reason.NOT_CONFIGURED
            assert status.reason is (model.reason or nothing), f"{pair}: {status.reason}, not {model.reason or nothing}"
            assert status.healthy is (model.reason is Reason.OK)
            assert not later[pair].healthy
            if status.version:
                assert status.version >= model.version
                model.version = status.version

    async def look(self) -> tuple[bool, Statuses, Statuses]:
        """Whether the index of pairs is complete, and what is read now and in an hour."""
        redis, ahead = self.keeper.redis, SharedClock()
        seconds, micros = await redis.time()
        ahead.calibrate((seconds + HOUR, micros), steady())
        reader = HealthCache(self.keeper.reading, ahead, shards=self.settings.shards)
        filled = bool(await redis.exists(keys.epoch(0)))
        return filled, await _statuses(self.keeper.cache), await _statuses(reader)


async def _statuses(reader: HealthCache) -> Statuses:
    page = await reader.statuses("acme", ["github", "slack"])
    return {pair: page[pair.connector] for pair in PAIRS}


@pytest.mark.timeout(600)  # passes in seconds; when it fails, the story is first made short
def test_the_schedule_is_what_the_model_says(
    redis_server: RedisServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumping = Jumping()
    monkeypatch.setattr("registry.clock.time", jumping)
    memory = settings.model_copy(update={"config_store": "memory", "shards": 2})

    class Here(ScheduleMachine):
        def __init__(self) -> None:
            super().__init__(redis_server, memory, jumping)

    run_state_machine_as_test(Here, settings=CHECKED)


CHECKED = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
