"""Reading the shared health cache: `HealthCache` for coroutines, `HealthView` for plain code.

Both read the same records by the same rule (`registry.record.seen`) and answer ``unknown`` rather than fail: a reader
is never worse off than without a monitor. Neither ever calls a vendor or the configuration store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from types import TracebackType
from typing import Self, TypeAlias

from registry import keys
from registry.clock import SharedClock, steady
from registry.connection import AWAY
from registry.errors import CacheUnavailable
from registry.health import HealthStatus, Reason
from registry.history import History, read
from registry.ids import SYSTEM, Pair, connector_id, scope_id
from registry.pages import Page, Wanted, chosen, questions, sizes
from registry.reading import Command, Reading, SyncReading
from registry.record import absent, decode, glimpsed, seen
from registry.route import Route, choose, distrust

Wires: TypeAlias = "list[bytes | None]"
"""What Redis has of one tenant: the shard's epoch, the tenant's index, then a record for each connector asked for."""

_PAGE = files("registry").joinpath("lua", "page.lua").read_text()
_TIME: Command = ("TIME",)

PAIRS = 300
"""Pairs of any tenants that are asked for at once: three keys each, some 5 ms of both sides."""

INDEXES = 10_000
"""Tenants whose connectors a reader remembers; beyond them it forgets all, and learns again."""


class HealthCache:
    """Asynchronous reader. `strict` callers get `CacheUnavailable` instead of ``unknown/monitor_error``."""

    def __init__(self, reading: Reading, clock: SharedClock, *, shards: int) -> None:
        self._reading, self._clock, self._shards = reading, clock, shards
        self._indexes: dict[str, bytes] = {}

    async def status(self, pair: Pair, *, strict: bool = False) -> HealthStatus:
        """One pair's effective verdict; one round trip."""
        return (await self.statuses(pair.tenant, (pair.connector,), strict=strict))[pair.connector]

    async def statuses(
        self, tenant: str, connectors: Sequence[str], *, strict: bool = False
    ) -> dict[str, HealthStatus]:
        """The verdicts of one tenant (or `SYSTEM`) for `connectors`; one round trip."""
        shard = keys.shard_of(tenant, self._shards)
        try:
            wires = await self._ask(_mget(shard, tenant, tuple(connectors)))
        except AWAY as error:
            return _away(tenant, connectors, self._clock.now_ms(), error, strict=strict)
        return _page(tenant, connectors, wires, self._clock.now_ms())

    async def each(self, pairs: Sequence[Pair]) -> dict[Pair, HealthStatus]:
        """The verdicts of any pairs; one round trip for each `PAIRS` of them, which has the whole timeout."""
        found: dict[Pair, HealthStatus] = {}
        for first in range(0, len(pairs), PAIRS):
            part = pairs[first : first + PAIRS]
            asked = [_mget(keys.shard_of(tenant, self._shards), tenant, (name,)) for name, tenant in part]
            try:
                wires = await self._ask_all(asked)
            except AWAY as error:
                said, now_ms = _sentence(error), self._clock.now_ms()
                found |= {pair: absent(pair, Reason.MONITOR_ERROR, now_ms, error=said) for pair in part}
                continue
            now_ms = self._clock.now_ms()
            for (name, tenant), row in zip(part, wires, strict=True):
                found[Pair(name, tenant)] = _page(tenant, (name,), row, now_ms)[name]
        return found

    async def configured(self, tenant: str) -> dict[str, HealthStatus]:
        """The verdicts of the connectors that a tenant has, in one round trip, or two when these have changed.

        Raises:
            CacheUnavailable: Redis is away, and it alone knows which connectors these are.
        """
        shard, known, began = keys.shard_of(tenant, self._shards), self._indexes.get(tenant), steady()
        try:
            wires = await self._ask(_mget(shard, tenant, _names(known))) if known else None
            if wires is None or wires[1] != known:
                wires = _learned(self._indexes, tenant, await self._ask(_everything(shard, tenant), since=began))
        except AWAY as error:
            raise CacheUnavailable(_sentence(error)) from error
        return _page(tenant, _names(wires[1]), wires, self._clock.now_ms())

    async def histories(self, tenant: str, connectors: Sequence[str]) -> dict[str, History]:
        """The histories of one tenant (or `SYSTEM`) for `connectors`; one round trip.

        Raises:
            CacheUnavailable: Redis is away.
        """
        try:
            wires = await self._ask(_mget_histories(keys.shard_of(tenant, self._shards), tenant, connectors))
        except AWAY as error:
            raise CacheUnavailable(_sentence(error)) from error
        return _past(tenant, connectors, wires, self._clock.now_ms())

    async def page(self, wanted: Wanted, *, after: str = "", limit: int = 100) -> Page:
        """The verdicts of up to `limit` tenants after the tenant `after`, in two round trips for each `PART` of them.

        Every round trip has the reader's whole timeout: how long a page takes depends on how much it shows.

        Raises:
            CacheUnavailable: Redis is away, and it alone knows which tenants there are.
        """
        found: list[HealthStatus] = []
        for size in sizes(limit):
            part = await self._part(wanted, after, size)
            found += part.statuses
            if part.after is None:
                return Page(tuple(found), None)
            after = part.after
        return Page(tuple(found), after)

    async def _part(self, wanted: Wanted, after: str, size: int) -> Page:
        try:
            rows = await self._reading.ask(*questions(self._shards, after, wanted.prefix, size))
            tenants, following = chosen(rows, size)
            wires = await self._ask_all([_whole(tenant, self._shards) for tenant in tenants]) if tenants else []
        except AWAY as error:
            raise CacheUnavailable(_sentence(error)) from error
        return Page(_selected(wanted, tenants, wires, self._clock.now_ms()), following)

    async def _ask(self, command: Command, since: float | None = None) -> Wires:
        (wires,) = await self._ask_all([command], since)
        return wires

    async def _ask_all(self, commands: Sequence[Command], since: float | None = None) -> list[Wires]:
        if not self._clock.due:
            return await self._reading.ask(*commands, since=since)
        asked = steady()
        now, *answers = await self._reading.ask(_TIME, *commands, since=since)
        self._clock.calibrate((int(now[0]), int(now[1])), asked)
        return answers


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
            wires = self._ask(_mget_histories(keys.shard_of(tenant, self._shards), tenant, connectors))
        except AWAY as error:
            raise CacheUnavailable(_sentence(error)) from error
        return _past(tenant, connectors, wires, self._clock.now_ms())

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
            wires = self._ask_all([_whole(tenant, self._shards) for tenant in tenants]) if tenants else []
        except AWAY as error:
            raise CacheUnavailable(_sentence(error)) from error
        return Page(_selected(wanted, tenants, wires, self._clock.now_ms()), following)

    def _named(self, tenant: str, names: tuple[str, ...]) -> dict[str, HealthStatus]:
        try:
            wires = self._ask(_mget(keys.shard_of(tenant, self._shards), tenant, names))
        except AWAY as error:
            return _away(tenant, names, self._clock.now_ms(), error, strict=self._strict)
        return _page(tenant, names, wires, self._clock.now_ms())

    def _configured(self, tenant: str) -> dict[str, HealthStatus]:
        shard, known, began = keys.shard_of(tenant, self._shards), self._indexes.get(tenant), steady()
        try:
            wires = self._ask(_mget(shard, tenant, _names(known))) if known else None
            if wires is None or wires[1] != known:
                wires = _learned(self._indexes, tenant, self._ask(_everything(shard, tenant), since=began))
        except AWAY as error:
            raise CacheUnavailable(_sentence(error)) from error
        return _page(tenant, _names(wires[1]), wires, self._clock.now_ms())

    def _ask(self, command: Command, since: float | None = None) -> Wires:
        (wires,) = self._ask_all([command], since)
        return wires

    def _ask_all(self, commands: Sequence[Command], since: float | None = None) -> list[Wires]:
        if not self._clock.due:
            return self._reading.ask(*commands, since=since)
        asked = steady()
        now, *answers = self._reading.ask(_TIME, *commands, since=since)
        self._clock.calibrate((int(now[0]), int(now[1])), asked)
        return answers


@lru_cache(maxsize=2_000)
def _mget(shard: int, tenant: str, connectors: tuple[str, ...]) -> Command:
    """The question for `Wires` when it is known which connectors are meant; spelling so many keys is worth keeping."""
    records = [keys.verdict(shard, Pair(name, tenant)) for name in connectors]
    return ("MGET", keys.epoch(shard), keys.index(shard, tenant), *records)


def _everything(shard: int, tenant: str) -> Command:
    """The question for `Wires` when only the index tells which connectors there are."""
    return ("EVAL", _PAGE, 3, keys.epoch(shard), keys.index(shard, tenant), keys.verdict(shard, Pair("", tenant)))


def _whole(tenant: str, shards: int) -> Command:
    return _everything(keys.shard_of(tenant, shards), tenant)


def _selected(wanted: Wanted, tenants: Sequence[str], wires: Sequence[Wires], now_ms: int) -> tuple[HealthStatus, ...]:
    pages = (_page(tenant, _names(row[1]), row, now_ms) for tenant, row in zip(tenants, wires, strict=True))
    return tuple(status for page in pages for status in page.values() if status in wanted)


def _learned(indexes: dict[str, bytes], tenant: str, wires: Wires) -> Wires:
    if len(indexes) >= INDEXES:
        indexes.clear()
    indexes[tenant] = wires[1] or b""
    return wires


@lru_cache(maxsize=2_000)
def _names(index: bytes | None) -> tuple[str, ...]:
    return tuple(index.decode().split()) if index else ()


def _page(tenant: str, connectors: Sequence[str], wires: Wires, now_ms: int) -> dict[str, HealthStatus]:
    page: dict[str, HealthStatus] = {}
    scope = None if tenant.startswith(SYSTEM) else tenant
    for at, name in enumerate(connectors, 2):
        wire = wires[at]
        if wire is None:
            page[name] = _missing(Pair(name, tenant), wires, now_ms)
        else:
            page[name] = glimpsed(name, scope, wire, now_ms) or seen(Pair(name, tenant), decode(wire), now_ms)
    return page


def _mget_histories(shard: int, tenant: str, connectors: Iterable[str]) -> Command:
    """A history with the record that tells what has been in force since its last check, for each connector."""
    pairs = [Pair(name, tenant) for name in connectors]
    # The epoch is only there because an `MGET` of no keys is refused.
    wanted = [key for pair in pairs for key in (keys.verdict(shard, pair), keys.history(shard, pair))]
    return ("MGET", keys.epoch(shard), *wanted)


def _past(tenant: str, connectors: Iterable[str], wires: Wires, now_ms: int) -> dict[str, History]:
    rows = zip(connectors, wires[1::2], wires[2::2], strict=True)
    return {
        name: read(Pair(name, tenant), wire, decode(record) if record else None, now_ms) for name, record, wire in rows
    }


def _missing(pair: Pair, wires: Wires, now_ms: int) -> HealthStatus:
    """No record: not configured if the index of pairs says so, else not checked.

    Without an epoch the index itself is not to be believed: Redis lost it, or nothing ever ran.
    """
    configured = wires[0] is None or pair.connector in _names(wires[1])
    return absent(pair, Reason.NOT_CHECKED if configured else Reason.NOT_CONFIGURED, now_ms)


def _away(
    tenant: str, connectors: Iterable[str], now_ms: int, error: BaseException, *, strict: bool
) -> dict[str, HealthStatus]:
    if strict:
        raise CacheUnavailable(_sentence(error)) from error
    said = _sentence(error)
    return {name: absent(Pair(name, tenant), Reason.MONITOR_ERROR, now_ms, error=said) for name in connectors}


def _sentence(error: BaseException) -> str:
    return f"the health cache did not answer ({type(error).__name__}): see whether Redis is up and reachable"
