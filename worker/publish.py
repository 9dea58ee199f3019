"""Pushes snapshots to the Pushgateway: one group a shard, replaced as a whole, and one for the system itself.

A push makes the Pushgateway check everything it holds, so one group with many series is far cheaper than many groups.
What a group holds that is refused costs this group only; a Pushgateway that takes nothing is left alone until the next
turn. Everything is pushed anew in every turn, so one that lost its data has them again after the next.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

from registry import keys
from registry.bootstrap import Parts
from worker.gateway import Gateway, PushFailed
from worker.labels import tenant_label
from worker.lags import count
from worker.metrics import fresh_registry, platform_families, shard_families
from worker.snapshot import platform_snapshot, shard_snapshot, whole_snapshot

log = structlog.get_logger(__name__)

PLATFORM_SHARD = "platform"
"""The grouping value under which the system's own families are pushed."""

MOST_SHARDS = 1_024
"""More than `SHARDS` may ever be."""

OursUntil = Callable[[], Awaitable[float]]
"""Until when (`steady` seconds) the lease is certainly ours, 0 if it is not."""


async def push(parts: Parts, ours_until: OursUntil) -> bool:
    """Replace every group; False when the lease was lost on the way or a group was not taken.

    `ours_until` is asked before each group.
    """
    outcomes: Counter[str] = Counter()
    try:
        gateway = Gateway(parts.settings)
        async for group, families in _groups(parts):
            outcomes[await _put(gateway, group, families, await ours_until())] += 1
        await _clear_away(parts, gateway, ours_until)
    except PushFailed as error:
        outcomes["failed"] += 1
        log.warning("push_failed", error=str(error))
    async with parts.redis.pipeline(transaction=False) as pipe:
        count(pipe, {f"pushes|{outcome}": number for outcome, number in outcomes.items()}, parts.clock.now_ms())
        await pipe.execute()
    return outcomes.keys() <= {"done"}


async def exposed(parts: Parts) -> list[Metric]:
    """The same content as one group, for ``/metrics``."""
    shards = shard_families(await whole_snapshot(parts), tenant_label(parts.settings))
    return [*shards, *platform_families(await platform_snapshot(parts))]


async def exposition(parts: Parts) -> CollectorRegistry:
    """What is exposed, in a registry of its own."""
    return fresh_registry(await exposed(parts))


async def _groups(parts: Parts) -> AsyncIterator[tuple[str, CollectorRegistry]]:
    label = tenant_label(parts.settings)
    for shard in range(parts.settings.shards):
        yield str(shard), fresh_registry(shard_families(await shard_snapshot(parts, shard), label))
    yield PLATFORM_SHARD, fresh_registry(platform_families(await platform_snapshot(parts)))


async def _put(gateway: Gateway, group: str, families: CollectorRegistry, until: float) -> str:
    """Push one group: done, or refused. Raises `PushFailed` when the next one need not be tried."""
    try:
        await asyncio.to_thread(lambda: gateway.put(group, generate_latest(families), until))
    except PushFailed as error:
        if not error.refused:
            raise
        log.warning("push_refused", shard=group, error=str(error))
        return "refused"
    return "done"


async def _clear_away(parts: Parts, gateway: Gateway, ours_until: OursUntil) -> None:
    """Remove the groups of shards that are no more, and those pushed under another job.

    What was pushed last is kept in Redis. Without that any group may be left: to remove what is not there is cheap,
    while the Pushgateway can tell what is there only with every series it holds.
    """
    shards, job = parts.settings.shards, parts.settings.metrics_job
    current = f"{shards} {job}".encode()
    pushed = cast("bytes | None", await parts.redis.get(keys.PUSHED))
    if pushed == current:
        return
    before, _, old_job = (pushed.decode() if pushed else f"{MOST_SHARDS} {job}").partition(" ")
    left = [str(shard) for shard in range(shards if old_job == job else 0, int(before))]
    if old_job != job:
        left.append(PLATFORM_SHARD)
    until = await ours_until()
    await asyncio.to_thread(lambda: gateway.delete(left, until, job=old_job))
    await parts.redis.set(keys.PUSHED, current)
