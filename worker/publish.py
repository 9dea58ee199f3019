"""Pushes snapshots to the Pushgateway: the pairs in few groups, each replaced as a whole, and the system itself in one.

A push makes the Pushgateway check everything it holds, so one group with many series is far cheaper than many groups
(``docs/adr/0009-fewer-groups-and-series.md``). The pairs of a shard stay together.
What a group holds that is refused costs this group only; a Pushgateway that takes nothing is left alone until the next
turn. Everything is pushed anew in every turn, so one that lost its data has them again after the next.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from registry import keys
from registry.bootstrap import Parts
from registry.facts import count
from worker.exposition import Exposition
from worker.gateway import Gateway, PushFailed
from worker.labels import tenant_label
from worker.metrics import Totals, fresh_registry, pair_families, platform_families, shard_families, total_families
from worker.snapshot import ShardSnapshot, platform_snapshot, shard_snapshot, whole_snapshot

log = structlog.get_logger(__name__)

PLATFORM_SHARD = "platform"
"""The grouping value under which the system's own families are pushed."""

MOST_GROUPS = 1_024
"""More than `PUSH_GROUPS` may ever be."""

OursUntil = Callable[[], Awaitable[float]]
"""Until when (`steady` seconds) the lease is certainly ours, 0 if it is not."""


async def push(parts: Parts, ours_until: OursUntil) -> bool:
    """Replace every group; False when the lease was lost on the way or a group was not taken.

    `ours_until` is asked before each group.
    """
    outcomes: Counter[str] = Counter()
    try:
        gateway = Gateway(parts.settings)
        async for group, body in _groups(parts):
            outcomes[await _put(gateway, group, body, await ours_until())] += 1
        await _clear_away(parts, gateway, ours_until)
    except PushFailed as error:
        outcomes["failed"] += 1
        log.warning("push_failed", error=str(error))
    async with parts.redis.pipeline(transaction=False) as pipe:
        count(pipe, {f"pushes|{outcome}": number for outcome, number in outcomes.items()}, parts.clock.now_ms())
        await pipe.execute()
    return outcomes.keys() <= {"done"}


async def pairs_body(parts: Parts, group: int) -> bytes:
    """One group's pairs. Of each shard only the text is kept, so that there is never more than one in memory."""
    text, totals, label = Exposition(), Totals(), tenant_label(parts.settings)

    def add(snapshot: ShardSnapshot) -> None:
        text.add(pair_families(snapshot, label))
        totals.add(snapshot)

    for shard in range(group, parts.settings.shards, parts.settings.metrics_groups):
        await asyncio.to_thread(add, await shard_snapshot(parts, shard))
    text.add(total_families(totals))
    return await asyncio.to_thread(text.body)


async def exposed(parts: Parts) -> list[Metric]:
    """The same content as one group, for ``/metrics``."""
    shards = shard_families(await whole_snapshot(parts), tenant_label(parts.settings))
    return [*shards, *platform_families(await platform_snapshot(parts))]


async def exposition(parts: Parts) -> CollectorRegistry:
    """What is exposed, in a registry of its own."""
    return fresh_registry(await exposed(parts))


async def _groups(parts: Parts) -> AsyncIterator[tuple[str, bytes]]:
    for group in range(parts.settings.metrics_groups):
        yield str(group), await pairs_body(parts, group)
    system = Exposition()
    system.add(platform_families(await platform_snapshot(parts)))
    yield PLATFORM_SHARD, system.body()


async def _put(gateway: Gateway, group: str, body: bytes, until: float) -> str:
    """Push one group: done, or refused. Raises `PushFailed` when the next one need not be tried."""
    try:
        await asyncio.to_thread(gateway.put, group, body, until)
    except PushFailed as error:
        if not error.refused:
            raise
        log.warning("push_refused", shard=group, error=str(error))
        return "refused"
    return "done"


async def _clear_away(parts: Parts, gateway: Gateway, ours_until: OursUntil) -> None:
    """Remove the groups beyond the number there are, and those pushed under another job.

    What was pushed last is kept in Redis. Without that any group may be left: to remove what is not there is cheap,
    while the Pushgateway can tell what is there only with every series it holds.
    """
    groups, job = parts.settings.metrics_groups, parts.settings.metrics_job
    current = f"{groups} {job}".encode()
    pushed = cast("bytes | None", await parts.redis.get(keys.PUSHED))
    if pushed == current:
        return
    before, _, old_job = (pushed.decode() if pushed else f"{MOST_GROUPS} {job}").partition(" ")
    left = [str(group) for group in range(groups if old_job == job else 0, int(before))]
    if old_job != job:
        left.append(PLATFORM_SHARD)
    until = await ours_until()
    await asyncio.to_thread(lambda: gateway.delete(left, until, job=old_job))
    await parts.redis.set(keys.PUSHED, current)
