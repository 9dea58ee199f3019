"""What is measured, read from Redis: the verdicts of one shard, and the system's own counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from registry import keys
from registry.bootstrap import Parts
from registry.cache import Wires
from registry.clock import steady
from registry.health import HealthStatus, Reason
from registry.ids import SYSTEM, Pair
from registry.incidents import Incident, open_incidents
from registry.record import absent, decode, seen


@dataclass(frozen=True, slots=True)
class ShardSnapshot:
    """The effective verdicts of a shard's pairs, and its counters (``checks|github|ok`` → 12)."""

    statuses: tuple[HealthStatus, ...]
    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PlatformSnapshot:
    """The system's own state: its counters and last success times (ms), and per connector (pairs, due pairs)."""

    facts: Mapping[str, int]
    depth: Mapping[str, tuple[int, int]]
    in_flight: Mapping[str, int]
    children: int
    incidents: Sequence[Incident]
    shards: int
    now_ms: int


async def shard_snapshot(parts: Parts, shard: int) -> ShardSnapshot:
    """Read one shard, in pages."""
    asked = steady()
    parts.clock.calibrate(await parts.redis.time(), asked)
    seen_pairs: dict[Pair, HealthStatus] = {}
    for connector in parts.catalog.list():
        async for page in parts.schedule.pairs(connector, shard):
            async for status in _statuses(parts, shard, page):
                seen_pairs[Pair(status.connector, status.tenant_id or "*")] = status
    return ShardSnapshot(tuple(seen_pairs.values()), _numbers(await parts.redis.hgetall(keys.counters(shard))))


async def whole_snapshot(parts: Parts) -> ShardSnapshot:
    """All shards as one: what ``/metrics`` shows, where no `shard` label tells them apart."""
    shards = [await shard_snapshot(parts, shard) for shard in range(parts.settings.shards)]
    counters: Counter[str] = Counter()
    for shard in shards:
        counters.update(shard.counters)
    return ShardSnapshot(tuple(status for shard in shards for status in shard.statuses), counters)


async def platform_snapshot(parts: Parts) -> PlatformSnapshot:
    """Read the system's own state."""
    names, now = parts.catalog.list(), parts.clock.now_ms()
    async with parts.redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(keys.PLATFORM)
        pipe.zcount(keys.CHILDREN, now - 20_000, "+inf")
        for name in names:
            pipe.zcard(keys.batches(name))
        facts, children, *flying = await pipe.execute()
    depth, incidents = await parts.schedule.depth(names), await open_incidents(parts.redis)
    in_flight, shards = dict(zip(names, flying, strict=True)), parts.settings.shards
    return PlatformSnapshot(_numbers(facts), depth, in_flight, children, incidents, shards, now)


async def _statuses(parts: Parts, shard: int, pairs: list[Pair]) -> AsyncIterator[HealthStatus]:
    # Of the service checks only the vendors' own are shown: which addresses tenants use is not everybody's to know.
    pairs = [pair for pair in pairs if not pair.is_service or pair.tenant == SYSTEM]
    if not pairs:
        return
    wires = cast("Wires", await parts.redis.mget([keys.verdict(shard, pair) for pair in pairs]))
    now = parts.clock.now_ms()
    for pair, wire in zip(pairs, wires, strict=True):
        yield seen(pair, decode(wire), now) if wire else absent(pair, Reason.NOT_CHECKED, now)


def _numbers(wire: object) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in cast("Mapping[bytes, bytes]", wire).items()}
