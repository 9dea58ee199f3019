"""The periodic work that only one process may do at a time, each under its lease."""

from __future__ import annotations

import asyncio

import structlog

from registry import keys
from registry.bootstrap import Parts
from registry.errors import StoreUnavailable
from registry.lease import Lease
from registry.status_pages import keep, pages, read_page
from worker.auditing import audit_transitions
from worker.incidents import detect
from worker.publish import push

log = structlog.get_logger(__name__)


async def publish(parts: Parts, owner: str) -> bool:
    """Push every shard's gauges to the Pushgateway; False when another process is the publisher."""
    settings = parts.settings
    lease, ttl = Lease(parts.redis, "publisher", owner), settings.publish_every * 2
    fence = await lease.hold(ttl)
    if not fence:
        return False

    async def still_ours() -> bool:
        return await lease.hold(ttl) == fence

    await parts.redis.hset(keys.PLATFORM, "publisher_fence", str(fence))
    if settings.pushgateway_url and await push(parts, still_ours):
        await parts.redis.hset(keys.PLATFORM, "publish_ms", str(parts.clock.now_ms()))
    return True


async def detect_incidents(parts: Parts, owner: str) -> bool:
    """Look for incidents; False when another process does."""
    if not await Lease(parts.redis, "detector", owner).hold(parts.settings.incidents_every * 3):
        return False
    await detect(parts)
    await parts.redis.hset(keys.PLATFORM, "detect_ms", str(parts.clock.now_ms()))
    return True


async def reconcile(parts: Parts, owner: str) -> bool:
    """One round of the reconciler; False when another process is at it, or the store is away."""
    settings = parts.settings
    if not await Lease(parts.redis, "reconciler", owner).hold(settings.reconcile_every * 2):
        return False
    try:
        await parts.reconciler.run()
    except StoreUnavailable as error:
        log.warning("store_unavailable", error=str(error))
        return False
    finally:
        await audit_transitions(parts)
    await parts.redis.hset(keys.PLATFORM, "reconcile_ms", str(parts.clock.now_ms()))
    return True


async def read_status_pages(parts: Parts, owner: str) -> bool:
    """Read the vendors' status pages, and keep what they say; False when another process does."""
    settings, now = parts.settings, parts.clock.now_ms()
    if not await Lease(parts.redis, "status_pages", owner).hold(settings.status_pages_every / 2):
        return False
    found = pages(parts.catalog, settings)
    reports = await asyncio.gather(
        *(read_page(parts.http, name, page, timeout=settings.check_timeout, now_ms=now) for name, page in found.items())
    )
    await keep(parts.redis, reports, settings.status_pages_every * 3)
    await parts.redis.hset(keys.PLATFORM, "status_pages_ms", str(now))
    return True
