"""Reading everybody's verdicts for a person: from the cache only, never from a vendor or the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from registry.errors import CacheUnavailable
from registry.health import HealthStatus, Reason
from registry.ids import SYSTEM, Pair, tenant_id
from registry.record import absent
from worker.snapshot import shard_snapshot

if TYPE_CHECKING:
    from registry.bootstrap import Parts

Statuses = Mapping[Pair, HealthStatus]


async def everybody(parts: Parts) -> Statuses:
    """The verdict of every scheduled pair, service checks included. Raises what redis-py raises."""
    found: dict[Pair, HealthStatus] = {}
    for shard in range(parts.settings.shards):
        for status in (await shard_snapshot(parts, shard)).statuses:
            found[Pair(status.connector, status.tenant_id or SYSTEM)] = status
    return found


async def of_tenant(parts: Parts, tenant: str) -> Statuses:
    """The verdict of each of a tenant's scheduled pairs. Raises `InvalidId` and what redis-py raises."""
    pairs = [Pair(name, tenant_id(tenant)) for name in parts.catalog.list()]
    known = [pair for pair, scheduled in zip(pairs, await parts.schedule.get(pairs), strict=True) if scheduled]
    page = await parts.cache.statuses(tenant, [pair.connector for pair in known], strict=True)
    return {pair: page[pair.connector] for pair in known}


class Watcher:
    """Reads again and again. What was known stays listed when Redis is away, as what it then is: unknown."""

    def __init__(self, parts: Parts, tenant: str | None = None) -> None:
        self._parts, self._tenant = parts, tenant
        self.statuses: Statuses = {}
        self.away = False

    async def look(self) -> list[HealthStatus]:
        """Read everything; returns the transitions since the last look (at the first look, none)."""
        before, self.away = self.statuses, False
        try:
            self.statuses = await self._read()
        except (RedisError, CacheUnavailable):
            self.away, now = True, self._parts.clock.now_ms()
            self.statuses = {pair: absent(pair, Reason.MONITOR_ERROR, now) for pair in before}
        return [status for pair, status in self.statuses.items() if _turned(before.get(pair), status)]

    async def _read(self) -> Statuses:
        if self._tenant is None:
            return await everybody(self._parts)
        return await of_tenant(self._parts, self._tenant)


def _turned(before: HealthStatus | None, now: HealthStatus) -> bool:
    return before is not None and (before.status, before.reason) != (now.status, now.reason)
