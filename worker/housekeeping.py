"""The periodic work that only one process may do at a time, each under its lease.

Which process a tick reaches is chance, so a lease goes on after its work only for as long as the ticks of other beats
of the same turn may come: the next turn is anybody's. A process that dies or hangs at it loses the lease by time.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from redis.exceptions import WatchError

from registry import keys
from registry.bootstrap import Parts
from registry.clock import steady
from registry.connection import AWAY
from registry.errors import StoreUnavailable
from registry.lease import Lease
from registry.status_pages import keep, pages, read_page
from worker.auditing import audit_transitions
from worker.cloud_monitoring import export
from worker.events.deliver import Deliverer
from worker.events.gather import Gatherer
from worker.events.retention import trim
from worker.incidents import detect
from worker.publish import push
from worker.pulse import Pulse, judge, told, working
from worker.snapshot import platform_snapshot

log = structlog.get_logger(__name__)


AFTERWARDS = 0.8
"""Part of its pace for which a task that is done keeps others from doing it again."""


async def publish(parts: Parts, owner: str) -> bool:
    """Push every shard's gauges to the Pushgateway; False when another process is the publisher."""
    settings, began = parts.settings, steady()
    lease, ttl = Lease(parts.redis, "publisher", owner), settings.publish_every * 2
    fence = await lease.hold(ttl)
    if not fence:
        return False

    async def ours_until() -> float:
        asked = steady()
        return asked + ttl if await lease.hold(ttl) == fence else 0.0

    await parts.redis.hset(keys.PLATFORM, "publisher_fence", str(fence))
    if settings.pushgateway_url and await push(parts, ours_until):
        await parts.redis.hset(keys.PLATFORM, "publish_ms", str(parts.clock.now_ms()))
    await _afterwards(lease, began, settings.publish_every)
    return True


async def detect_incidents(parts: Parts, owner: str) -> bool:
    """Look for incidents; False when another process does, or did before this one was done."""
    every, began = parts.settings.incidents_every, steady()
    lease = Lease(parts.redis, "detector", owner)
    fence = await lease.hold(every * 3)
    if not fence:
        return False
    try:
        await detect(parts, lambda pipe: lease.fenced(pipe, fence))
    except WatchError:
        log.warning("look_for_incidents_too_slow")
        return False
    await parts.redis.hset(keys.PLATFORM, "detect_ms", str(parts.clock.now_ms()))
    await _afterwards(lease, began, every)
    return True


async def _afterwards(lease: Lease, began: float, every: float) -> None:
    await lease.hold(max(0.0, began + AFTERWARDS * every - steady()))


async def reconcile(parts: Parts, owner: str) -> bool:
    """One round of the reconciler; False when another process is at it, or the store is away."""
    settings, began = parts.settings, steady()
    lease = Lease(parts.redis, "reconciler", owner)
    if not await lease.hold(settings.reconcile_every * 2):
        return False
    try:
        await parts.reconciler.run()
        await parts.maintenance.copy()
        await parts.access.copy()
    except StoreUnavailable as error:
        log.warning("store_unavailable", error=str(error))
        return False
    finally:
        await audit_transitions(parts)
        await trim(parts)
    await parts.redis.hset(keys.PLATFORM, "reconcile_ms", str(parts.clock.now_ms()))
    await _afterwards(lease, began, settings.reconcile_every)
    return True


async def tell(parts: Parts, gatherer: Gatherer, deliverer: Deliverer, owner: str) -> bool:
    """Gather what is worth telling, and send it on; False when another process gathers."""
    every, began = parts.settings.webhooks_every, steady()
    await deliverer.tick()
    lease = Lease(parts.redis, "gatherer", owner)
    fence = await lease.hold(every * 3)
    if not fence:
        return False
    try:
        await gatherer.gather(lambda pipe: lease.fenced(pipe, fence))
    except WatchError:
        log.warning("gathering_too_slow")
        return False
    await deliverer.tick()
    await parts.redis.hset(keys.PLATFORM, "tell_ms", str(parts.clock.now_ms()))
    await _afterwards(lease, began, every)
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


async def pulse(parts: Parts, owner: str) -> bool:
    """Tell the outside whether the monitor works; False when another process does, or nobody was told.

    When Redis is away nobody can hold the lease: then each process that still gets ticks says so.
    """
    settings = parts.settings
    try:
        lease = Lease(parts.redis, "pulse", owner)
        if not await lease.hold(AFTERWARDS * settings.heartbeat_every):
            return False
        state = judge(await platform_snapshot(parts), await working(parts))
    except AWAY as error:
        state = Pulse(("Redis does not answer",))
        log.warning("redis_away", error=type(error).__name__)
    if not await told(settings, state):
        return False
    with suppress(*AWAY):
        await parts.redis.hset(keys.PLATFORM, "pulse_ms", str(parts.clock.now_ms()))
    return True


async def export_cloud_monitoring(parts: Parts, owner: str) -> bool:
    """Write the aggregates to Cloud Monitoring; False when another process does, or not all was taken."""
    settings = parts.settings
    lease = Lease(parts.redis, "cloud_monitoring", owner)
    try:
        if not await lease.hold(AFTERWARDS * settings.cloud_monitoring_every) or not await export(parts):
            return False
        await parts.redis.hset(keys.PLATFORM, "cloud_monitoring_ms", str(parts.clock.now_ms()))
    except AWAY as error:
        log.warning("redis_away", error=type(error).__name__)
        return False
    return True
