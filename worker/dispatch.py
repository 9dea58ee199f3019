"""Turns what is due into batches: claim, group, publish. Costs what is due, not what exists.

No more batches are in flight than the live check processes can take, and no connector has more than half of those:
a hanging vendor fills its own half of the queue, never everybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil

import structlog

from registry import keys
from registry.bootstrap import Parts
from registry.clock import steady
from registry.ids import Pair
from registry.pace import Pace
from registry.record import CLOCK_SLACK_MS
from registry.schedule import Claim
from worker.batch import Batch, batched
from worker.lags import Lags

log = structlog.get_logger(__name__)

CHILD_SILENCE_MS = 20_000
"""A check process that has not been heard of for so long is not counted any more."""


async def dispatch(parts: Parts, publish: Callable[[Batch], None]) -> int:
    """Claim what is due and hand it to `publish`; returns the number of pairs.

    `publish` sends one batch to the workers. If it raises, the claims not yet sent are handed back.
    """
    await _rescue(parts)
    size = parts.settings.batch_size
    claims = await parts.schedule.claim({name: batches * size for name, batches in (await _room(parts)).items()})
    batches = batched(claims, size)
    await _in_flight(parts, batches)
    try:
        while batches:
            publish(batches[-1])
            batches.pop()
    finally:
        if batches:
            await parts.schedule.release(pair for batch in batches for pair in batch.pairs())
    await _count(parts, claims)
    return sum(len(claim.tenants) for claim in claims)


async def _rescue(parts: Parts) -> None:
    """A last tick in the future means that Redis' clock was set back, and every turn with it out of reach."""
    asked = steady()
    async with parts.redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.hget(keys.PLATFORM, "dispatch_ms")
        now, last = await pipe.execute()
    parts.clock.calibrate(now, asked)
    if last is not None and int(last) > parts.clock.now_ms() + CLOCK_SLACK_MS:
        pace = Pace.of(parts.settings)
        moved = await parts.schedule.rescue({name: pace.usual(name) for name in parts.catalog.list()})
        log.warning("clock_set_back", by_seconds=(int(last) - parts.clock.now_ms()) / 1000, pairs=moved)


async def _room(parts: Parts) -> dict[str, int]:
    """How many batches of each connector to send now. Batches never heard of again are counted as lost."""
    now, names = parts.clock.now_ms(), parts.catalog.list()
    async with parts.redis.pipeline(transaction=False) as pipe:
        pipe.zcount(keys.CHILDREN, now - CHILD_SILENCE_MS, "+inf")
        for name in names:
            pipe.zremrangebyscore(keys.batches(name), "-inf", now)
            pipe.zcard(keys.batches(name))
        children, *counts = await pipe.execute()
    lost, flying = sum(counts[::2]), dict(zip(names, counts[1::2], strict=True))
    if lost:
        await parts.redis.hincrby(keys.PLATFORM, "batches_lost", lost)
    due = {
        name: ceil(pairs / parts.settings.batch_size)
        for name, (_, pairs) in (await parts.schedule.depth(names)).items()
    }
    return allot(due, flying, max(1, children) * parts.settings.batches_per_slot)


def allot(due: Mapping[str, int], flying: Mapping[str, int], most: int) -> dict[str, int]:
    """Share out the free places among `most` batches in flight: to each what it needs, up to half of all places."""
    free = max(0, most - sum(flying.values()))
    wanted = {name: min(batches, max(0, max(1, most // 2) - flying[name])) for name, batches in due.items()}
    scale = min(1.0, free / max(1, sum(wanted.values())))
    return {name: ceil(batches * scale) for name, batches in wanted.items()}


async def _in_flight(parts: Parts, batches: list[Batch]) -> None:
    lost_at = parts.clock.now_ms() + int(parts.settings.claim_lease * 1000)
    async with parts.redis.pipeline(transaction=False) as pipe:
        for batch in batches:
            pipe.zadd(keys.batches(batch.connector), {batch.id: lost_at})
        await pipe.execute()


async def _count(parts: Parts, claims: list[Claim]) -> None:
    late, lags = [late for claim in claims for late in claim.late_ms], Lags()
    for ms in late:
        lags.observe("schedule", ms)
    await lags.flush(parts.redis, parts.clock.now_ms())
    coalesced = await _coalesced(parts, claims)
    async with parts.redis.pipeline(transaction=False) as pipe:
        pipe.hincrby(keys.PLATFORM, "claimed", len(late))
        pipe.hincrby(keys.PLATFORM, "coalesced", coalesced)
        pipe.hset(keys.PLATFORM, mapping={"lag_ms": max(late, default=0), "dispatch_ms": parts.clock.now_ms()})
        await pipe.execute()


async def _coalesced(parts: Parts, claims: list[Claim]) -> int:
    """What was late by more than its interval has missed a turn: one check makes up for all of them. How many did?

    Only configurations of pairs that are later than their connector's interval are read, for their own may be longer.
    """
    pace = Pace.of(parts.settings)
    late = {
        Pair(claim.connector, tenant): ms
        for claim in claims
        for tenant, ms in zip(claim.tenants, claim.late_ms, strict=True)
        if ms > pace.usual(claim.connector)
    }
    known = await parts.schedule.get(list(late)) if late else []
    return sum(late[one.pair] > pace.every(one.pair, one.config) for one in known if one)
