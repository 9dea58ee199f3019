"""Turns what is due into batches: claim, group, publish. Costs what is due, not what exists.

No more work is in flight than the live check processes do in a few seconds, see `worker.flight`. After a stop (of beat,
of Redis, of all workers) what became due meanwhile is spread over as long as the stop lasted, and what was sent and
expired meanwhile over twice as long as it waited, so that no vendor sees more than twice the usual load.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from math import ceil

import structlog

from registry import keys
from registry.bootstrap import Parts
from registry.clock import steady
from registry.facts import count
from registry.ids import Pair
from registry.pace import Pace
from registry.record import CLOCK_SLACK_MS
from registry.schedule import Claim
from worker.batch import Batch, batched
from worker.flight import Flight, give_up, limit, look, room, sent, unsent
from worker.lags import Lags

log = structlog.get_logger(__name__)

TICK_MOST = 20_000
"""Pairs one tick claims: so that it takes well under its time limit, whatever is due."""

STOP_MS = 10_000
"""So long between two signs of life of workers that ticks have seen is a stop."""


async def dispatch(parts: Parts, publish: Callable[[Batch], None]) -> int:
    """Claim what is due and hand it to `publish`; returns the number of pairs.

    `publish` sends one batch to the workers. If it raises, the claims not yet sent are handed back.
    """
    flight = await _begin(parts)
    due = await parts.schedule.due(parts.catalog.list())
    waiting = {name: sum(counts) for name, counts in due.items()}
    wanted = _bounded(room(flight, waiting, limit(parts, flight)))
    claims = await parts.schedule.claim(wanted, due)
    batches = batched(claims, parts.settings.batch_size)
    random.shuffle(batches)  # where sending is slow the last ones may expire, and should not be the same every time
    await sent(parts, batches)
    try:
        while batches:
            publish(batches[-1])
            batches.pop()
    finally:
        if batches:
            await parts.schedule.release(one for batch in batches for one in batch.held())
            await unsent(parts, batches)
    claimed = sum(len(claim.tenants) for claim in claims)
    await _count(parts, flight, claims, held_back=max(0, sum(waiting.values()) - claimed))
    return claimed


async def _begin(parts: Parts) -> Flight:
    """Look at the clock and at what flies, and set right what a stop or a clock set back have left behind."""
    asked = steady()
    async with parts.redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.hmget(keys.PLATFORM, "dispatch_ms", "working_ms")
        now, (last, working) = await pipe.execute()
    parts.clock.calibrate(now, asked)
    flight = await look(parts)
    if last is not None and int(last) > parts.clock.now_ms() + CLOCK_SLACK_MS:
        await _rescue(parts, int(last))
    elif working is not None and flight.children:
        await _catch_up(parts, flight.seen_ms - int(working))
    return flight


async def _rescue(parts: Parts, last: int) -> None:
    """A last tick in the future means that Redis' clock was set back, and every turn with it out of reach."""
    pace = Pace.of(parts.settings)
    moved = await parts.schedule.rescue({name: pace.usual(name) for name in parts.catalog.list()})
    log.warning("clock_set_back", by_seconds=(last - parts.clock.now_ms()) / 1000, pairs=moved)


async def _catch_up(parts: Parts, stopped_ms: int) -> None:
    """Spread what became due in a stop over as long as it lasted, at most an interval."""
    if stopped_ms <= max(STOP_MS, 3_000 * parts.settings.dispatch_every):
        return
    pace = Pace.of(parts.settings)
    moved = await parts.schedule.spread_out({name: min(stopped_ms, pace.usual(name)) for name in parts.catalog.list()})
    log.warning("caught_up", stopped_seconds=stopped_ms / 1000, pairs=moved)


def _bounded(wanted: Mapping[str, int]) -> Mapping[str, int]:
    """The same, but no more than about `TICK_MOST` in all; some of each."""
    scale = TICK_MOST / max(TICK_MOST, sum(wanted.values()))
    return {name: ceil(pairs * scale) for name, pairs in wanted.items()}  # nobody's one pair waits for all others'


async def _count(parts: Parts, flight: Flight, claims: list[Claim], *, held_back: int) -> None:
    late, lags = [late for claim in claims for late in claim.late_ms], Lags()
    for ms in late:
        lags.observe("schedule", ms)
    await lags.flush(parts.redis, parts.clock.now_ms())
    coalesced, now = await _coalesced(parts, claims), parts.clock.now_ms()
    counted = {
        "claimed": len(late),
        "coalesced": coalesced,
        "held_back": held_back,
        "batches_lost": await give_up(parts),
    }
    async with parts.redis.pipeline(transaction=False) as pipe:
        count(pipe, counted, now)
        pipe.hset(keys.PLATFORM, mapping={"lag_ms": max(late, default=0), "dispatch_ms": now})
        if flight.children:
            pipe.hset(keys.PLATFORM, "working_ms", str(flight.seen_ms))
        await pipe.execute()


async def _coalesced(parts: Parts, claims: list[Claim]) -> int:
    """What was late by more than its interval has missed a turn: one check makes up for all of them. How many did?

    Only configurations of pairs that are later than their tenant's or connector's interval are read: their own may be
    longer.
    """
    pace = Pace.of(parts.settings)
    late = {
        Pair(claim.connector, tenant): ms
        for claim in claims
        for tenant, ms in zip(claim.tenants, claim.late_ms, strict=True)
        if ms > pace.every(Pair(claim.connector, tenant), None)
    }
    known = await parts.schedule.get(list(late)) if late else []
    return sum(late[one.pair] > pace.every(one.pair, one.config) for one in known if one)
