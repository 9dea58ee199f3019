"""The reading half of `registry.facade.ConnectorRegistry`: verdicts, histories and transitions, from the cache."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from registry import keys
from registry.clock import steady
from registry.demand import POLL, Demand
from registry.errors import ConnectorUnhealthy, UnknownConnector, WrongLoop
from registry.health import HealthStatus, Reason
from registry.history import History
from registry.ids import Pair, connector_id, scope_id
from registry.ids import tenant_id as valid_tenant
from registry.pages import Page, Wanted
from registry.route import Route, choose, distrust
from registry.watch import Gap, Transition, transitions

if TYPE_CHECKING:
    from registry.bootstrap import Parts


class HealthReader:
    """What is known of the health of every tenant's connectors. `HealthView` is its synchronous relative.

    No vendor is called, except by `health_check` with a `max_age`.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts, self._demand = parts, Demand(parts)
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None

    async def health_check(
        self, name: str, *, tenant_id: str | None = None, max_age: float | None = None
    ) -> HealthStatus:
        """The effective verdict of one pair, from the cache.

        Args:
            tenant_id: None means the service check, which belongs to no tenant.
            max_age: check now unless the verdict is younger than so many seconds (one process does, the others wait for
                it). None never makes a check. Where a budget is used up, none is made, and `put_off_until` tells when
                there is room again.

        Raises:
            UnknownConnector: no connector of that name is registered.
        """
        self._here()
        pair = Pair(connector_id(name), scope_id(tenant_id))
        self._known(name)
        status = await self._parts.cache.status(pair)
        if max_age is None or (status.age is not None and status.age < max_age and not status.stale):
            return status
        if status.reason in (Reason.NOT_CONFIGURED, Reason.MONITOR_ERROR) and status.checked_ms is None:
            return status
        await self._parts.announcements.start()
        return await self._demand.check(pair, status)

    async def health_check_all(self, *, tenant_id: str | None = None) -> dict[str, HealthStatus]:
        """The verdicts of every registered connector for one tenant, in one round trip."""
        self._here()
        return await self._parts.cache.statuses(scope_id(tenant_id), self._parts.catalog.list())

    async def history(self, name: str, *, tenant_id: str | None = None) -> History:
        """Uptime over 24 hours, 7 and 30 days, latency and the last transitions of one pair; nothing is checked.

        Args:
            tenant_id: None means the service check, which belongs to no tenant.

        Raises:
            UnknownConnector: no connector of that name is registered.
            CacheUnavailable: Redis is away.
        """
        self._here()
        self._known(connector_id(name))
        return (await self._parts.cache.histories(scope_id(tenant_id), (name,)))[name]

    async def history_all(self, *, tenant_id: str | None = None) -> dict[str, History]:
        """The histories of every registered connector for one tenant, in one round trip. Raises `CacheUnavailable`."""
        self._here()
        return await self._parts.cache.histories(scope_id(tenant_id), self._parts.catalog.list())

    async def get_healthy(self, *, tenant_id: str | None = None) -> list[str]:
        """The usable connectors (healthy or degraded) of a tenant, sorted."""
        return [name for name, status in (await self.health_check_all(tenant_id=tenant_id)).items() if status.healthy]

    async def route(self, names: str | Sequence[str], *, tenant_id: str, allow_unknown: bool = False) -> Route:
        """The first usable connector of `names`, healthy before degraded, with the refusal of each other.

        When more than half of the tenant's connectors are unknown, it is the monitoring that is not to be trusted:
        the choice then falls open, to what was last known, and says so (`Route.panic`).

        >>> async def chat(reg, tenant):
        ...     route = await reg.route(["slack", "linear"], tenant_id=tenant)
        ...     return route.connector or route.explanation

        Args:
            names: in order of preference; the name of a group (``ROUTE_GROUPS``) stands for its connectors.
            allow_unknown: with nothing better, take a configured one whose verdict is unknown.
        """
        self._here()
        tenant, wanted = valid_tenant(tenant_id), self._expanded([names] if isinstance(names, str) else names)
        statuses = await self._parts.cache.statuses(tenant, self._parts.catalog.list())
        return choose(wanted, statuses, allow_unknown=allow_unknown, panic=distrust(statuses.values()))

    async def page(self, wanted: Wanted | None = None, *, after: str = "", limit: int = 100) -> Page:
        """The verdicts of many tenants, in the order of their ids, from the cache alone.

        A long page is read in parts of 50 tenants, two round trips each; it is every round trip that has the
        ``READ_TIMEOUT``, not the page.

        >>> from registry import Status, Wanted
        >>> async def broken(reg):
        ...     page = await reg.page(Wanted(statuses=[Status.UNHEALTHY]), limit=50)
        ...     return page.statuses, page.after  # the next page is `after` that

        Args:
            wanted: which tenants (by prefix) and verdicts; None: all.
            after: the last page's `Page.after`.
            limit: tenants to look at, up to 1,000.

        Raises:
            CacheUnavailable: Redis is away, and it alone knows which tenants there are.
        """
        self._here()
        return await self._parts.cache.page(wanted or Wanted(), after=after, limit=limit)

    async def wait_healthy(self, name: str, *, tenant_id: str | None, timeout: float) -> HealthStatus:
        """The verdict as soon as it is usable (healthy or degraded), at once if it is now. Makes no check itself.

        Args:
            timeout: seconds.

        Raises:
            UnknownConnector: no connector of that name is registered.
            ConnectorUnhealthy: it was not usable in time; its `status` is the last verdict.
        """
        ends = steady() + timeout
        while not (status := await self.health_check(name, tenant_id=tenant_id)).healthy:
            if steady() >= ends:
                raise ConnectorUnhealthy(status)
            await asyncio.sleep(POLL)
        return status

    def watch(self, tenant_id: str | None, *, after: str | None = None) -> AsyncGenerator[Transition | Gap, None]:
        """A tenant's transitions as they happen, for ever; it holds one connection to Redis.

        It begins with a `Gap` (read the statuses now, all that follows is told), unless it resumes `after` the
        position of an earlier item. Another `Gap` says that transitions may have been missed. That a verdict becomes
        stale is no transition: readers see that by its ``fresh_until``.
        """
        self._here()
        tenant = scope_id(tenant_id)
        stream = keys.events(keys.shard_of(tenant, self._parts.settings.shards))
        return transitions(self._parts.redis, stream, tenant, after=after, wait=self._parts.settings.stream_wait)

    def _known(self, name: str) -> None:
        if not self._parts.catalog.has(name):
            raise UnknownConnector(
                f"no connector {name!r} is registered; there are: {', '.join(self._parts.catalog.list())}"
            )

    def _expanded(self, names: Sequence[str]) -> list[str]:
        groups = self._parts.settings.route_groups
        return [connector_id(member) for name in names for member in groups.get(name, (name,))]

    def _here(self) -> None:
        """Clients belong to the loop that made them; used from another one, they would hang."""
        here = (os.getpid(), asyncio.get_running_loop())
        if self._home is None:
            self._home = here
        elif self._home != here:
            other = "process" if self._home[0] != here[0] else "event loop"
            raise WrongLoop(f"this registry belongs to another {other}: make one with create_registry() in each")
