"""`HealthView`: the shared health cache for plain code, which has no event loop; see `registry.cache`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from registry import keys
from registry.clock import SharedClock, steady
from registry.connection import AWAY
from registry.errors import CacheUnavailable
from registry.health import HealthStatus
from registry.history import History
from registry.ids import connector_id, scope_id
from registry.pages import Page, Wanted, chosen, questions, sizes
from registry.reading import Command, SyncReading
from registry.route import Route, choose, distrust
from registry.wires import (
    TIME,
    Wires,
    histories_command,
    learn,
    named_command,
    names_in,
    pasts,
    selected,
    sentence,
    unanswered,
    verdicts,
    whole_command,
)


class HealthView:
    """Synchronous, read-only view of the health cache, for plain Celery tasks and scripts.

    >>> with HealthView(REDIS_URL, timeout=2) as view:
    ...     status = view.status("github", "acme")
    >>> status.healthy, status.reason.value
    (False, 'not_checked')

    Args:
        redis_url: where the cache is (``REDIS_URL`` of the workers).
        timeout: seconds a read may wait for Redis before it answers ``unknown/monitor_error``. After three silences
            in a row it answers so at once, and one read a second sees whether Redis is back.
        shards: as the workers are configured (``SHARDS``).
        strict: raise `CacheUnavailable` instead of answering ``unknown/monitor_error``.
    """

    def __init__(self, redis_url: str, *, timeout: float = 0.05, shards: int = 16, strict: bool = False) -> None:
        self._reading = SyncReading(redis_url, timeout)
        self._clock, self._shards, self._strict = SharedClock(), shards, strict
        self._indexes: dict[str, bytes] = {}

    def status(self, name: str, tenant_id: str | None) -> HealthStatus:
        """The effective verdict of one connector of one tenant; None means the service check."""
        return self._named(scope_id(tenant_id), (connector_id(name),))[name]

    def statuses(self, tenant_id: str | None, names: Iterable[str] | None = None) -> Mapping[str, HealthStatus]:
        """The verdicts of a tenant's connectors: `names`, or those it has configured; one round trip.

        Raises:
            CacheUnavailable: Redis is away and `names` was not given (or the view is `strict`).
        """
        tenant = scope_id(tenant_id)
        return self._configured(tenant) if names is None else self._named(tenant, tuple(names))

    def page(self, wanted: Wanted | None = None, *, after: str = "", limit: int = 100) -> Page:
        """The verdicts of up to `limit` tenants after the tenant `after`, see `ConnectorRegistry.page`."""
        wanted, found = wanted or Wanted(), list[HealthStatus]()
        for size in sizes(limit):
            part = self._part(wanted, after, size)
            found += part.statuses
            if part.after is None:
                return Page(tuple(found), None)
            after = part.after
        return Page(tuple(found), after)

    def healthy(self, tenant_id: str | None) -> list[str]:
        """The tenant's usable connectors (healthy or degraded), sorted; none while Redis is away."""
        try:
            return sorted(name for name, status in self.statuses(tenant_id).items() if status.healthy)
        except CacheUnavailable:
            if self._strict:
                raise
            return []

    def route(self, names: Sequence[str], tenant_id: str, *, allow_unknown: bool = False) -> Route:
        """The first usable connector of `names`, see `ConnectorRegistry.route`; groups are the caller's to expand."""
        page = self.statuses(tenant_id, names)
        try:
            panic = distrust(self.statuses(tenant_id).values())
        except CacheUnavailable:
            panic = distrust(page.values())
        return choose(names, page, allow_unknown=allow_unknown, panic=panic)

    def history(self, name: str, tenant_id: str | None) -> History:
        """Uptime, latency and last transitions of one connector of one tenant; None means the service check.

        Raises:
            CacheUnavailable: Redis is away.
        """
        return self.histories(tenant_id, (connector_id(name),))[name]

    def histories(self, tenant_id: str | None, names: Iterable[str] | None = None) -> dict[str, History]:
        """The histories of a tenant's connectors: `names` in one round trip, or those it has configured in two.

        Raises:
            CacheUnavailable: Redis is away.
        """
        tenant = scope_id(tenant_id)
        connectors = tuple(self._configured(tenant) if names is None else names)
        try:
            wires = self._ask(histories_command(keys.shard_of(tenant, self._shards), tenant, connectors))
        except AWAY as error:
            raise CacheUnavailable(sentence(error)) from error
        return pasts(tenant, connectors, wires, self._clock.now_ms())

    def close(self) -> None:
        """Give the connections back."""
        self._reading.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _part(self, wanted: Wanted, after: str, size: int) -> Page:
        try:
            rows = self._reading.ask(*questions(self._shards, after, wanted.prefix, size))
            tenants, following = chosen(rows, size)
            wires = self._ask_all([whole_command(tenant, self._shards) for tenant in tenants]) if tenants else []
        except AWAY as error:
            raise CacheUnavailable(sentence(error)) from error
        return Page(selected(wanted, tenants, wires, self._clock.now_ms()), following)

    def _named(self, tenant: str, names: tuple[str, ...]) -> dict[str, HealthStatus]:
        try:
            wires = self._ask(named_command(keys.shard_of(tenant, self._shards), tenant, names))
        except AWAY as error:
            return unanswered(tenant, names, self._clock.now_ms(), error, strict=self._strict)
        return verdicts(tenant, names, wires, self._clock.now_ms())

    def _configured(self, tenant: str) -> dict[str, HealthStatus]:
        shard, known, began = keys.shard_of(tenant, self._shards), self._indexes.get(tenant), steady()
        try:
            wires = self._ask(named_command(shard, tenant, names_in(known))) if known else None
            if wires is None or wires[1] != known:
                wires = self._ask(whole_command(tenant, self._shards), since=began)
                learn(self._indexes, tenant, wires)
        except AWAY as error:
            raise CacheUnavailable(sentence(error)) from error
        return verdicts(tenant, names_in(wires[1]), wires, self._clock.now_ms())

    def _ask(self, command: Command, since: float | None = None) -> Wires:
        (wires,) = self._ask_all([command], since)
        return wires

    def _ask_all(self, commands: Sequence[Command], since: float | None = None) -> list[Wires]:
        if not self._clock.due:
            return self._reading.ask(*commands, since=since)
        asked = steady()
        now, *answers = self._reading.ask(TIME, *commands, since=since)
        self._clock.calibrate((int(now[0]), int(now[1])), asked)
        return answers
