"""The batches in flight: what they keep the workers busy with, measured, and how much more may be sent.

Work is told in seconds of a worker's time. What a pair takes is measured from the batches that ended in the last
minute; what was never measured is taken for as slow as can be, since a batch holds its worker for no longer than
`batch_patience`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from random import random

from redis.asyncio.client import Pipeline

from registry import keys
from registry.bootstrap import Parts
from registry.facts import count
from registry.pace import Pace
from registry.record import CLOCK_SLACK_MS
from registry.schedule import Task
from worker.batch import Batch

CHILD_SILENCE_MS = 20_000
"""A check process that has not been heard of for so long is not counted any more."""

FASTEST = 0.00005
"""Seconds of a worker that a pair takes at least, whatever was measured."""

STRETCH_MS = 30_000
"""Length of one stretch of measuring; the present one and the one before count."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the batches of a connector take: seconds of a worker for a whole batch, and for each pair of one."""

    batch: float
    pair: float


@dataclass(frozen=True, slots=True)
class Flight:
    """Live check processes, the batches in flight by connector, and what each connector's work costs.

    `seen_ms` is the last sign of life of any check process, Unix milliseconds (0: there was none).
    """

    children: int
    batches: Mapping[str, int]
    costs: Mapping[str, Cost]
    seen_ms: int = 0

    def work(self) -> dict[str, float]:
        """Seconds of a worker that the batches in flight still take, at most, by connector."""
        return {name: batches * self.costs[name].batch for name, batches in self.batches.items()}


async def look(parts: Parts) -> Flight:
    """What flies now."""
    now, names = parts.clock.now_ms(), parts.catalog.list()
    latest = _latest(parts)
    stretch = now // STRETCH_MS
    async with parts.redis.pipeline(transaction=False) as pipe:
        pipe.zcount(keys.CHILDREN, now - CHILD_SILENCE_MS, now + CLOCK_SLACK_MS)  # later is of a clock set back
        pipe.zrange(keys.CHILDREN, -1, -1, withscores=True)
        pipe.hgetall(keys.work(stretch))
        pipe.hgetall(keys.work(stretch - 1))
        for name in names:
            pipe.zcount(keys.batches(name), now, latest)
        children, newest, present, before, *flying = await pipe.execute()
    costs = {name: _cost(parts, name, present, before) for name in names}
    seen_ms = min(now, int(newest[0][1])) if newest else 0  # one of the future is of a clock set back
    return Flight(children, dict(zip(names, flying, strict=True)), costs, seen_ms)


async def give_up(parts: Parts) -> int:
    """Count batches never heard of again as in flight no more. How many were lost?"""
    async with parts.redis.pipeline(transaction=False) as pipe:
        for name in parts.catalog.list():
            pipe.zremrangebyscore(keys.batches(name), "-inf", f"({parts.clock.now_ms()}")
            pipe.zremrangebyscore(keys.batches(name), f"({_latest(parts)}", "+inf")
        return sum(await pipe.execute())


def _latest(parts: Parts) -> int:
    """When a batch sent now counts as lost, at the latest; what lasts longer was sent before the clock was set back."""
    return parts.clock.now_ms() + int(parts.settings.claim_lease * 1000) + CLOCK_SLACK_MS


def _cost(parts: Parts, name: str, *measured: Mapping[bytes, bytes]) -> Cost:
    """A batch that is not full takes longer for each of its pairs, but never longer than a full one may."""
    patience, size = parts.settings.batch_patience, parts.settings.batch_size
    batches, pairs, ms = (
        sum(int(row.get(f"{name}|{what}".encode(), 0)) for row in measured) for what in ("batches", "pairs", "ms")
    )
    if not batches:
        return Cost(patience, patience / size)
    return Cost(ms / batches / 1000, max(FASTEST, min(ms / max(1, pairs) / 1000, patience / size)))


def limit(parts: Parts, flight: Flight) -> float:
    """How much work may be in flight: so many seconds of each live check process (one is presumed to come)."""
    return max(1, flight.children) * parts.settings.in_flight_seconds


def room(flight: Flight, due: Mapping[str, int], most: float) -> dict[str, int]:
    """How many due pairs of each connector to send, so that at most `most` seconds of work are in flight.

    No connector gets more than half of them: a hanging vendor fills its own half, never everybody's.
    """
    work = flight.work()
    free = max(0.0, most - sum(work.values()))
    wanted = {
        name: min(pairs * flight.costs[name].pair, max(0.0, most / 2 - work[name])) for name, pairs in due.items()
    }
    scale = min(1.0, free / (sum(wanted.values()) or 1.0))
    return {name: min(due[name], ceil(seconds * scale / flight.costs[name].pair)) for name, seconds in wanted.items()}


async def sent(parts: Parts, batches: Iterable[Batch]) -> None:
    """Count these batches as in flight until they end, or a lease has passed."""
    lost_at = parts.clock.now_ms() + int(parts.settings.claim_lease * 1000)
    async with parts.redis.pipeline(transaction=False) as pipe:
        for batch in batches:
            pipe.zadd(keys.batches(batch.connector), {batch.id: lost_at})
        await pipe.execute()


async def unsent(parts: Parts, batches: Iterable[Batch]) -> None:
    """Count these batches as in flight no more: they were never sent."""
    async with parts.redis.pipeline(transaction=False) as pipe:
        for batch in batches:
            pipe.zrem(keys.batches(batch.connector), batch.id)
        await pipe.execute()


def landed(pipe: Pipeline, batch: Batch, seconds: float, now_ms: int) -> None:
    """Add to `pipe` that a batch has ended, and how many `seconds` it held its worker."""
    pairs = sum(len(claim.tenants) for claim in batch.claims)
    work, name = keys.work(now_ms // STRETCH_MS), batch.connector
    pipe.zrem(keys.batches(name), batch.id)
    for what, increment in (("batches", 1), ("pairs", pairs), ("ms", ceil(seconds * 1000))):
        pipe.hincrby(work, f"{name}|{what}", increment)
    pipe.pexpire(work, 3 * STRETCH_MS)


async def expired(parts: Parts, batch: Batch, tasks: Iterable[Task]) -> bool:
    """Has a batch waited for more than half of its lease? Then it is out of flight, and its `tasks` are handed back.

    They come back at random over twice as long as they waited (at most an interval), for after a stop many
    batches expire at once: beside what became due meanwhile, which comes back over as long as the stop lasted, that is
    no more than the usual load once more. Judged by Redis' clock alone: Celery's own `expires` compares those of two
    machines.
    """
    now = parts.clock.now_ms()
    waited_ms = now - batch.claimed_ms
    if waited_ms <= parts.settings.claim_lease * 500:
        return False
    async with parts.redis.pipeline(transaction=False) as pipe:
        pipe.zrem(keys.batches(batch.connector), batch.id)
        count(pipe, {"batches_expired": 1}, now)
        await pipe.execute()
    pace = Pace.of(parts.settings)
    over = {task.held: min(2 * waited_ms, pace.at_most(task.pair, task.scheduled.config)) for task in tasks}
    await parts.schedule.reschedule({held: now + int(random() * ms) for held, ms in over.items()})  # noqa: S311 - no secret
    return True
