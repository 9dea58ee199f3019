"""Pushes snapshots to the Pushgateway: one group a shard, replaced as a whole, and one for the system itself.

A push makes the Pushgateway check everything it holds, so one group with many series is far cheaper than many groups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.error import URLError

import structlog
from prometheus_client import CollectorRegistry, push_to_gateway

from registry.bootstrap import Parts
from worker.metrics import fresh_registry, platform_families, shard_families
from worker.snapshot import platform_snapshot, shard_snapshot, whole_snapshot

log = structlog.get_logger(__name__)

PLATFORM_SHARD = "platform"
"""The grouping value under which the system's own families are pushed."""


async def push(parts: Parts, still_ours: Callable[[], Awaitable[bool]]) -> bool:
    """Replace every group; False when the lease was lost on the way or a push failed.

    `still_ours` is asked before each group, so that a publisher that was replaced stops writing.
    """
    settings = parts.settings
    for shard in range(settings.shards):
        families = shard_families(await shard_snapshot(parts, shard), tenants=settings.metrics_tenants)
        if not await still_ours() or not await _put(parts, str(shard), fresh_registry(families)):
            return False
    families = platform_families(await platform_snapshot(parts))
    return await _put(parts, PLATFORM_SHARD, fresh_registry(families))


async def exposition(parts: Parts) -> CollectorRegistry:
    """The same content in one registry, for ``/metrics``."""
    families = list(shard_families(await whole_snapshot(parts), tenants=parts.settings.metrics_tenants))
    return fresh_registry([*families, *platform_families(await platform_snapshot(parts))])


async def _put(parts: Parts, shard: str, registry: CollectorRegistry) -> bool:
    settings = parts.settings
    assert settings.pushgateway_url is not None  # noqa: S101 - push() is not called without
    try:
        await asyncio.to_thread(
            push_to_gateway,
            settings.pushgateway_url,
            settings.pushgateway_job,
            registry,
            grouping_key={"shard": shard},
            timeout=settings.pushgateway_timeout,
        )
    except (URLError, OSError) as error:
        log.warning("push_failed", shard=shard, error=f"{type(error).__name__}: {error}")
        return False
    return True
