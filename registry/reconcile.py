"""Keeps the schedule equal to the configuration store: follows its changes, and now and then compares everything.

What `set_config` announced is here already; this brings in what was written while Redis was away, by other tools, or
before Redis lost its data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import structlog

from registry import keys
from registry.catalog import Catalog
from registry.clock import SharedClock, steady
from registry.configuring import is_reset
from registry.connection import Redis
from registry.endpoints import Endpoints
from registry.errors import InvalidConfig, NotConfigured
from registry.ids import Pair
from registry.pace import spread
from registry.schedule import Schedule, Scheduled
from registry.settings import Settings
from registry.stores import Change, Changes, TenantConfigStore

log = structlog.get_logger(__name__)


class Reconciler:
    """Brings the store's configurations into the schedule."""

    def __init__(
        self,
        redis: Redis,
        schedule: Schedule,
        store: TenantConfigStore,
        catalog: Catalog,
        endpoints: Endpoints,
        clock: SharedClock,
        settings: Settings,
    ) -> None:
        self._redis, self._schedule, self._store = redis, schedule, store
        self._catalog, self._endpoints, self._clock, self._settings = catalog, endpoints, clock, settings

    async def run(self) -> Mapping[str, int]:
        """One round: everything if it is due or Redis lost its data, else what changed. Returns counts."""
        now, refill = await self._calibrate()
        full_ms = await self._redis.hget(keys.CURSOR, "full_ms")
        if refill or full_ms is None or now - int(full_ms) > self._settings.reconcile_full_every * 1000:
            done = await self._full(now, spread_out=refill)
        else:
            cursor = cast("bytes | None", await self._redis.hget(keys.CURSOR, "cursor"))
            done = {"changed": await self._follow(cursor.decode() if cursor else None, now)}
        await self._endpoints.schedule_checks(now)
        return done

    async def _calibrate(self) -> tuple[int, bool]:
        """The time, and whether any shard is without its epoch: new, or lost with Redis' data."""
        asked = steady()
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.mget([keys.epoch(shard) for shard in range(self._schedule.shards)])
            now, epochs = await pipe.execute()
        self._clock.calibrate(now, asked)
        return self._clock.now_ms(), None in epochs

    async def _full(self, now: int, *, spread_out: bool) -> Mapping[str, int]:
        """Enter whatever the store has; take out what it does not have; say that the index is complete."""
        shards = range(self._schedule.shards)
        names = [(shard, name) for shard in shards for name in self._catalog.list()]
        await self._redis.delete(*[_seen(shard, name) for shard, name in names])
        changed = await self._follow(None, now, mark=True, spread_out=spread_out)
        removed = 0
        for shard, name in names:
            strangers = await self._redis.zdiff([keys.due(shard, name), _seen(shard, name)])
            for tenant in cast("list[bytes]", strangers):
                pair = Pair(name, tenant.decode())
                removed += not pair.is_service and await self._remove_unknown(pair)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(*[_seen(shard, name) for shard, name in names])
            for shard in shards:
                pipe.set(keys.epoch(shard), now, nx=True)
            pipe.hset(keys.CURSOR, "full_ms", str(now))
            await pipe.execute()
        await self._endpoints.forget(now)
        log.info("reconciled", changed=changed, removed=removed)
        return {"changed": changed, "removed": removed}

    async def _remove_unknown(self, pair: Pair) -> bool:
        """Take a pair out, unless it was configured while we were comparing."""
        revision = await self._revision(pair)
        try:
            await self._store.get_config(pair)
        except NotConfigured:
            return await self._schedule.remove(pair, revision)
        except InvalidConfig:
            pass
        return False

    async def _follow(self, cursor: str | None, now: int, *, mark: bool = False, spread_out: bool = False) -> int:
        """Apply the changes after `cursor`, a page at a time; the cursor is kept after each applied page."""
        changed, more = 0, True
        while more:
            changes = await self._store.changes_since(cursor)
            known = await self._schedule.get([change.pair for change in changes.items])
            for change, scheduled in zip(changes.items, known, strict=True):
                changed += await self._apply(change, scheduled, now, spread_out=spread_out)
            await self._endpoints.tell([(c.pair, c.config) for c in changes.items if c.config], now)
            if mark:
                await self._mark(changes)
            cursor, more = changes.cursor, changes.more
            await self._redis.hset(keys.CURSOR, "cursor", cursor)
        return changed

    async def _apply(self, change: Change, scheduled: Scheduled | None, now: int, *, spread_out: bool) -> bool:
        if scheduled is not None and scheduled.revision >= change.revision:
            return False
        if change.deleted:
            return scheduled is not None and await self._schedule.remove(change.pair, change.revision)
        if change.config is None:
            log.error("broken_configuration", pair=str(change.pair), error=change.error)
            return False
        due = now + int(spread(change.pair) * self._settings.check_interval * 1000) if spread_out else 0
        reset = is_reset(scheduled.config if scheduled else None, change.config)
        return await self._schedule.put(
            change.pair,
            change.revision,
            change.config,
            reset=reset,
            over=scheduled.revision if scheduled else 0,
            due_ms=due,
            announce=not spread_out,
        )

    async def _mark(self, changes: Changes) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for change in changes.items:
                if not change.deleted:
                    shard = self._schedule.shard(change.pair)
                    pipe.sadd(_seen(shard, change.pair.connector), change.pair.tenant)
                    pipe.expire(_seen(shard, change.pair.connector), 3600)
            await pipe.execute()

    async def _revision(self, pair: Pair) -> int:
        (scheduled,) = await self._schedule.get([pair])
        return scheduled.revision if scheduled else 0


def _seen(shard: int, connector: str) -> str:
    """Set of the tenants that a full comparison has met."""
    return f"{keys.configs(shard, connector)}:seen"
