"""The watch speaks: each test plants one violation in real data, and says what must be told about it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

import pytest
from msgspec.structs import replace

from registry import clock, keys
from registry.bootstrap import Parts, assemble
from registry.connector import ConnectorConfig
from registry.health import Fault, HealthCheck, Reason, StepStatus, Verdict
from registry.ids import Pair
from registry.record import decode, encode
from registry.recording import Outcome
from registry.settings import Settings
from tests.chaos.invariants import (
    EveryTransitionIsTold,
    EveryVerdictWasAsked,
    Invariant,
    NeverHealthyPastItsTime,
    NeverOlderOverNewer,
    NeverOverdue,
    NobodySeesAnother,
    NoVerdictIsFalse,
)
from tests.chaos.watch import Watch
from tests.fixtures_redis import RedisServer

PAIR = Pair("slack", "acme-01")
CONFIG = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://SLACK"}})


@dataclass
class Planted:
    """One pair that is checked as the test says, and a watch with one invariant at a time."""

    parts: Parts
    watch: Watch | None = None
    asked: int = 0

    def watch_for(self, invariant: Invariant) -> None:
        settings = self.parts.settings
        self.watch = Watch(
            settings.redis_url, [PAIR], [invariant], shards=settings.shards, asked=lambda: {"slack": self.asked}
        )
        self.watch.calm()
        assert self.told() == []

    async def checked(self, reason: Reason = Reason.OK, workspace: str = "acme-01") -> None:
        """One check as a worker would record it."""
        task = await self.parts.schedule.task(PAIR)
        assert task is not None
        step = HealthCheck("auth", StepStatus.PASS, 1.0, None, {"workspace": workspace})
        fault = Fault.NONE if reason is Reason.OK else Fault.TENANT
        verdict = Verdict(reason, fault, self.parts.clock.now_ms(), steps=(step,))
        self.asked += 1
        assert await self.parts.recorder.record([Outcome(task, verdict, "slack|slack.com")])

    def told(self) -> list[str]:
        """What one look says."""
        assert self.watch is not None
        assert self.watch.look() is not None
        return self.watch.taken()

    async def wire(self) -> bytes:
        """The record as Redis keeps it."""
        wire = await self.parts.redis.get(self.verdict_key)
        assert isinstance(wire, bytes)
        return wire

    async def lasts_for(self, milliseconds: int) -> None:
        """Let the verdict be believed for so much longer, from now by Redis' clock."""
        seconds, microseconds = await self.parts.redis.time()
        ends_ms = seconds * 1000 + microseconds // 1000 + milliseconds
        record = replace(decode(await self.wire()), fresh_until_ms=ends_ms)
        await self.parts.redis.set(self.verdict_key, encode(record))

    async def drop_last_event(self) -> None:
        """As if it had never been sent."""
        events = keys.events(self.parts.schedule.shard(PAIR))
        last = cast("list[tuple[bytes, object]]", await self.parts.redis.xrevrange(events, count=1))
        await self.parts.redis.xdel(events, last[0][0])

    def until_told(self) -> list[str]:
        deadline = time.monotonic() + 10
        while not (told := self.told()):
            assert time.monotonic() < deadline, "nothing is told"
        return told

    @property
    def verdict_key(self) -> str:
        return keys.verdict(self.parts.schedule.shard(PAIR), PAIR)


@pytest.fixture
async def planted(settings: Settings) -> AsyncIterator[Planted]:
    parts = assemble(settings)
    await parts.schedule.put(PAIR, 1, CONFIG, reset=False)
    for shard in range(settings.shards):
        await parts.redis.set(keys.epoch(shard), 1)
    started = Planted(parts)
    await started.checked()
    yield started
    if started.watch is not None:
        started.watch.close()
    await parts.aclose()


HOLDS: list[Callable[[], Invariant]] = [
    lambda: NeverHealthyPastItsTime(60),
    NeverOlderOverNewer,
    lambda: NeverOverdue(60),
    EveryTransitionIsTold,
    EveryVerdictWasAsked,
    NobodySeesAnother,
    lambda: NoVerdictIsFalse({PAIR: frozenset({Reason.OK, Reason.CREDENTIAL_REJECTED})}),
]


@pytest.mark.parametrize("invariant", HOLDS)
async def test_nothing_is_told_of_what_is_right(planted: Planted, invariant: Callable[[], Invariant]) -> None:
    planted.watch_for(invariant())
    for reason in (Reason.OK, Reason.CREDENTIAL_REJECTED, Reason.OK):
        await planted.checked(reason)
        assert planted.told() == []


async def test_a_verdict_that_outlives_its_time(planted: Planted) -> None:
    planted.watch_for(NeverHealthyPastItsTime(0.2))
    assert "older than 0.2 s" in planted.until_told()[0]


async def test_a_verdict_that_outlives_its_own_word(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader's clock stands still, so that it does not notice."""
    planted.watch_for(NeverHealthyPastItsTime(60))
    stopped = clock.steady()
    monkeypatch.setattr(clock, "steady", lambda: stopped)
    await planted.lasts_for(50)
    assert "was over" in planted.until_told()[0]


async def test_a_verdict_that_is_over_and_told_to_be_stale_is_right(planted: Planted) -> None:
    planted.watch_for(NeverHealthyPastItsTime(60))
    await planted.lasts_for(-1_000)
    assert planted.told() == []


async def test_an_older_record_over_a_newer(planted: Planted) -> None:
    old = await planted.wire()
    await planted.checked()
    planted.watch_for(NeverOlderOverNewer())
    await planted.parts.redis.set(planted.verdict_key, old)
    record, readers = planted.told()
    assert "replaced the newer" in record
    assert "readers see version" in readers


async def test_a_lost_memory_of_redis_excuses_an_older_record(planted: Planted) -> None:
    old = await planted.wire()
    await planted.checked()
    planted.watch_for(NeverOlderOverNewer())
    await planted.parts.redis.flushdb()
    assert planted.told() == []
    await planted.parts.redis.set(planted.verdict_key, old)
    assert planted.told() == []


async def test_one_version_that_is_two_checks(planted: Planted) -> None:
    planted.watch_for(NeverOlderOverNewer())
    record = decode(await planted.wire())
    assert record.verdict is not None
    earlier = replace(record.verdict, checked_ms=record.verdict.checked_ms - 1)
    await planted.parts.redis.set(planted.verdict_key, encode(replace(record, verdict=earlier)))
    assert "is two checks" in planted.told()[0]


async def test_a_pair_that_nobody_checks(planted: Planted) -> None:
    planted.watch_for(NeverOverdue(0.2))
    due = keys.due(planted.parts.schedule.shard(PAIR), PAIR.connector)
    await planted.parts.redis.zadd(due, {PAIR.tenant: planted.parts.clock.now_ms()})
    assert "is owed a check" in planted.until_told()[0]


async def test_a_pair_that_is_claimed_again_and_again(planted: Planted) -> None:
    planted.watch_for(NeverOverdue(0.2))
    deadline = time.monotonic() + 10
    while not planted.told():
        assert time.monotonic() < deadline, "nothing is told"
        await planted.parts.redis.zincrby(keys.due(planted.parts.schedule.shard(PAIR), "slack"), 1_000, PAIR.tenant)


async def test_a_pair_that_has_left_the_schedule(planted: Planted) -> None:
    planted.watch_for(NeverOverdue(0.2))
    await planted.parts.redis.delete(keys.due(planted.parts.schedule.shard(PAIR), "slack"))
    assert "is owed a check" in planted.until_told()[0]


async def test_a_transition_without_its_event(planted: Planted) -> None:
    planted.watch_for(EveryTransitionIsTold())
    await planted.checked(Reason.CREDENTIAL_REJECTED)
    await planted.drop_last_event()
    assert "no event told so" in planted.told()[0]


async def test_an_event_that_nobody_saw_the_beginning_of(planted: Planted) -> None:
    planted.watch_for(EveryTransitionIsTold())
    await planted.checked(Reason.CREDENTIAL_REJECTED)
    await planted.drop_last_event()
    await planted.checked(Reason.PERMISSION_DENIED)
    assert "goes on from ('unhealthy', 'credential_rejected')" in planted.told()[0]


async def test_a_verdict_that_no_vendor_was_asked_for(planted: Planted) -> None:
    planted.watch_for(EveryVerdictWasAsked())
    for _ in range(3):
        await planted.checked()
        planted.asked -= 1
        told = planted.told()
    assert "the vendor was asked 0 times" in told[0]


@pytest.mark.parametrize("stranger", ["acme-02", "acme-010"])
async def test_evidence_of_another_tenant(planted: Planted, stranger: str) -> None:
    planted.watch_for(NobodySeesAnother())
    await planted.checked(workspace=stranger)
    assert f"shows evidence of {stranger}" in planted.told()[0]


async def test_a_false_verdict(planted: Planted) -> None:
    planted.watch_for(NoVerdictIsFalse())
    await planted.checked(Reason.CREDENTIAL_REJECTED)
    assert "is told to be unhealthy/credential_rejected" in planted.told()[0]


async def test_a_configured_pair_that_reads_as_not_configured(planted: Planted) -> None:
    planted.watch_for(NoVerdictIsFalse())
    await planted.parts.redis.delete(planted.verdict_key, keys.index(planted.parts.schedule.shard(PAIR), PAIR.tenant))
    assert "is told to be not configured" in planted.told()[0]


def test_nothing_is_judged_while_redis_is_away(settings: Settings) -> None:
    nowhere = settings.redis_url.replace("redis.sock", "nowhere.sock")
    watch = Watch(nowhere, [PAIR], [NeverOverdue(0)], shards=settings.shards)
    assert watch.look() is None
    assert watch.taken() == []
    assert dict(watch.seen) == {"unknown/monitor_error": 1}
    watch.close()


async def test_data_that_are_lost_in_the_middle_of_a_look_are_judged_by_nobody(
    planted: Planted, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where no epoch tells so, because they were lost before and nothing is complete yet."""
    await planted.parts.redis.delete(*map(keys.epoch, range(planted.parts.settings.shards)))
    planted.watch_for(EveryTransitionIsTold())
    watch = planted.watch
    assert watch is not None
    due = watch._due

    def lost_first() -> dict[Pair, int]:
        with redis_server.client() as client:
            client.flushall()
        return due()

    monkeypatch.setattr(watch, "_due", lost_first)
    assert watch.look() is None, "its verdicts were told by events that are gone"
    monkeypatch.undo()
    assert planted.told() == []
