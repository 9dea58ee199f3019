"""Histories against a simple model that remembers every stretch of time, while clocks jump and results come late."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from registry.bootstrap import assemble
from registry.health import Reason, Status
from registry.history import BOUNDS_MS, ERROR, History, Window
from registry.record import Record
from registry.recording import Outcome
from registry.schedule import Task
from registry.settings import Settings
from tests.fixtures_history import DAY, HOUR, MINUTE, PAIR, START, Past, verdict
from tests.fixtures_redis import RedisServer

T = TypeVar("T")
GAPS = [1, 29, MINUTE, 10 * MINUTE, HOUR - 1, HOUR, 7 * HOUR, DAY, 6 * DAY, 29 * DAY, 40 * DAY]
FAILURES = [Reason.CREDENTIAL_REJECTED, Reason.VENDOR_ERROR, Reason.VENDOR_ERROR, Reason.MONITOR_ERROR]
WINDOWS = {"day": (HOUR, 24), "week": (DAY, 7), "month": (DAY, 30)}


@dataclass(frozen=True)
class Stretch:
    """The pair was seen in one status."""

    start: float
    end: float
    status: Status

    def within(self, start: float, end: float) -> int:
        return int(max(0.0, min(self.end, end) - max(self.start, start)))


@dataclass
class Model:
    """What happened to the pair since its history began, in whole seconds."""

    since: int
    last: int
    stretches: list[Stretch] = field(default_factory=list)
    latencies: list[tuple[int, float]] = field(default_factory=list)
    turns: list[tuple[int, Status, Reason]] = field(default_factory=list)
    in_force: Record | None = None

    def check(self, at: int, record: Record, latency: float) -> None:
        self.stretches += self.following(at)
        self.last = max(self.last, at)
        raw = record.newest
        assert raw is not None
        if raw.status in (Status.HEALTHY, Status.DEGRADED):
            self.latencies.append((self.last, latency))
        before = self.in_force
        if before is None or (before.status, before.reason) != (record.status, record.reason):
            self.turns.append((record.since_ms // 1000, record.status, record.reason))
        self.in_force = record

    def following(self, until: int) -> list[Stretch]:
        """What is in force after the last check, as far as it is fresh."""
        record = self.in_force
        if record is None or record.newest is None or record.status is Status.UNKNOWN:
            return []
        start, end = max(self.last, record.newest.checked_ms // 1000), min(until, record.fresh_until_ms // 1000)
        return [Stretch(start, end, record.status)] if start < end else []

    def window(self, now: int, size: int, back: int) -> dict[str, int]:
        begin = max(self.since, (now // size - back) * size)
        stretches = self.stretches + self.following(now)
        told = {
            status.value: sum(stretch.within(begin, now) for stretch in stretches if stretch.status is status)
            for status in (Status.HEALTHY, Status.DEGRADED, Status.UNHEALTHY)
        }
        return {"from": begin, **told, "unknown": now - begin - sum(told.values()), "maintenance": 0}


class HistoryMachine(RuleBasedStateMachine):
    """One pair, whose checks are done by one worker after the other."""

    reasons = st.sampled_from([Reason.OK, Reason.OK, Reason.SLOW, *FAILURES])
    latencies = st.floats(BOUNDS_MS[0], BOUNDS_MS[-1])

    def __init__(self, server: RedisServer, configured: Settings) -> None:
        super().__init__()
        with server.client() as client:
            client.flushall()
        self.loop = asyncio.new_event_loop()
        self.parts = assemble(configured)
        self.past, self.revision = Past(self.parts), 1
        self.model: Model | None = None
        self.late: list[Task] = []
        self.delivered: list[Outcome] = []
        self.run(self.past.begin())

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.parts.aclose())
        self.loop.close()

    @property
    def now(self) -> int:
        return int(self.past.clock.at)

    @rule(seconds=st.sampled_from(GAPS))
    def wait(self, seconds: int) -> None:
        self.past.clock.at += seconds

    @rule(seconds=st.sampled_from([MINUTE, 20 * MINUTE, 2 * HOUR, 3 * DAY]))
    def the_clock_is_set_back(self, seconds: int) -> None:
        self.past.clock.at = max(START, self.now - seconds)

    @rule(reason=reasons, latency=latencies)
    def check(self, reason: Reason, latency: float) -> None:
        outcome, record = self.run(self.past.check(self.now, reason, latency_ms=latency))
        assert record is not None
        self.delivered.append(outcome)
        self.counted(record, latency)

    @rule(reason=reasons, latency=latencies, many=st.integers(2, 70))
    def check_every_minute(self, reason: Reason, latency: float, many: int) -> None:
        for _ in range(many):
            self.wait(MINUTE)
            self.check(reason, latency)

    def counted(self, record: Record, latency: float) -> None:
        if self.model is None or self.now < self.model.last - HOUR:
            in_force = self.model.in_force if self.model else None
            self.model = Model(self.now, self.now, in_force=in_force)
        self.model.check(self.now, record, latency)

    @rule()
    def begin_a_check(self) -> None:
        task = self.run(self.parts.schedule.task(PAIR))
        assert task is not None
        self.late.append(task)

    @precondition(lambda self: self.late)
    @rule(reason=reasons, latency=latencies)
    def end_a_check(self, reason: Reason, latency: float) -> None:
        outcome = Outcome(self.late.pop(), verdict(reason, self.now, latency), "github|api.github.com")
        written = self.run(self.past.recorder.record([outcome]))
        self.delivered.append(outcome)
        if PAIR in written:
            self.counted(written[PAIR], latency)

    @precondition(lambda self: self.delivered)
    @rule(ago=st.integers(0, 3))
    def redeliver(self, ago: int) -> None:
        outcome = self.delivered[-1 - ago % len(self.delivered)]
        assert self.run(self.past.recorder.record([outcome])) == {}

    @rule()
    def rotate(self) -> None:
        self.run(self.parts.schedule.rotate(PAIR))
        if self.model is not None:
            self.model.in_force = None

    @rule()
    def change_the_label(self) -> None:
        self.revision += 1
        self.run(self.past.begin(revision=self.revision, reset=False))

    @rule()
    def remove_and_configure_again(self) -> None:
        self.run(self.parts.schedule.remove(PAIR, self.revision + 1))
        self.model = None
        self.revision += 2
        self.run(self.past.begin(revision=self.revision))

    @invariant()
    def what_is_read_is_what_happened(self) -> None:
        for later in (0, 7 * MINUTE, 5 * HOUR, 2 * DAY):
            history = self.run(self.past.read(self.now + later))
            if self.model is None:
                assert history.since_ms is None
            else:
                self.compare(history, self.model, max(self.now + later, self.model.last))

    def compare(self, history: History, model: Model, now: int) -> None:
        assert history.since_ms == model.since * 1000
        for name, (size, back) in WINDOWS.items():
            assert told(getattr(history, name)) == model.window(now, size, back), name
        hours = [told(hour) for hour in history.hours()]
        assert {state: sum(hour[state] for hour in hours) for state in STATES} == {
            state: told(history.day)[state] for state in STATES
        }
        assert all(sum(hour[state] for state in STATES) <= HOUR for hour in hours)
        turns = [(turn.at_ms // 1000, turn.status, turn.reason) for turn in history.transitions]
        assert turns == model.turns[::-1][:20]
        recent = sorted(ms for at, ms in model.latencies if at // DAY >= now // DAY - 1)
        assert history.latency.count == len(recent)
        if recent:
            for part, found in ((0.5, history.latency.p50), (0.95, history.latency.p95), (0.99, history.latency.p99)):
                true = recent[math.ceil(part * len(recent)) - 1]
                assert found is not None
                assert true / (1 + ERROR) * 0.999 <= found <= true * (1 + ERROR) * 1.001


STATES = ("healthy", "degraded", "unhealthy", "unknown", "maintenance")


def told(window: Window) -> dict[str, int]:
    return {"from": window.from_ms // 1000, **{name: getattr(window, name) for name in STATES}}


@pytest.mark.timeout(600)  # passes in seconds; when it fails, the story is first made short
def test_a_history_is_what_the_model_says(redis_server: RedisServer, settings: Settings) -> None:
    memory = settings.model_copy(update={"config_store": "memory", "shards": 2})

    class Here(HistoryMachine):
        def __init__(self) -> None:
            super().__init__(redis_server, memory)

    run_state_machine_as_test(Here, settings=CHECKED)


CHECKED = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
