"""Reading the shared health cache: `HealthCache` for coroutines, `HealthView` for plain code.

Both read the same records by the same rule (`registry.record.seen`) and answer ``unknown`` rather than fail: a reader
is never worse off than without a monitor. Neither ever calls a vendor or the configuration store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeAlias, cast

from registry import keys
from registry.clock import SharedClock, steady
from registry.connection import AWAY, Redis, SyncRedis, connect_sync
from registry.errors import CacheUnavailable
from registry.health import HealthStatus, Reason
from registry.ids import Pair, connector_id, scope_id
from registry.record import absent, decode, seen
from registry.route import Route, choose, distrust

Wires: TypeAlias = "list[bytes | None]"
"""Answers of Redis. redis-py's types also admit decoded text, which our connections never ask for."""


class HealthCache:
    """Asynchronous reader. `strict` callers get `CacheUnavailable` instead of ``unknown/monitor_error``."""

    def __init__(self, redis: Redis, clock: SharedClock, *, shards: int) -> None:
        self._redis, self._clock, self._shards = redis, clock, shards

    async def status(self, pair: Pair, *, strict: bool = False) -> HealthStatus:
        """One pair's effective verdict; one ``GET`` when there is one."""
        shard = keys.shard_of(pair.tenant, self._shards)
        try:
            if self._clock.due:
                await self._calibrate()
            wire = cast("bytes | None", await self._redis.get(keys.verdict(shard, pair)))
            if wire is None:
                known = cast("Wires", await self._redis.mget(_index_keys(shard, pair.tenant)))
                return _missing(pair, known, self._clock.now_ms())
        except AWAY as error:
            return _away(pair, self._clock.now_ms(), error, strict=strict)
        return seen(pair, decode(wire), self._clock.now_ms())

    async def statuses(
        self, tenant: str, connectors: Sequence[str], *, strict: bool = False
    ) -> dict[str, HealthStatus]:
        """The verdicts of one tenant (or `SYSTEM`) for `connectors`; one ``MGET``."""
        shard = keys.shard_of(tenant, self._shards)
        try:
            if self._clock.due:
                await self._calibrate()
            wires = cast("Wires", await self._redis.mget(_page_keys(shard, tenant, connectors)))
        except AWAY as error:
            now = self._clock.now_ms()
            return {name: _away(Pair(name, tenant), now, error, strict=strict) for name in connectors}
        return _page(tenant, connectors, wires, self._clock.now_ms())

    async def _calibrate(self) -> None:
        asked = steady()
        self._clock.calibrate(await self._redis.time(), asked)


class HealthView:
    """Synchronous, read-only view of the health cache, for plain Celery tasks and scripts.

    >>> with HealthView(REDIS_URL, timeout=2) as view:
    ...     status = view.status("github", "acme")
    >>> status.healthy, status.reason.value
    (False, 'not_checked')

    Args:
        redis_url: where the cache is (``REDIS_URL`` of the workers).
        timeout: seconds a read may wait for Redis before it answers ``unknown/monitor_error``.
        shards: as the workers are configured (``SHARDS``).
        strict: raise `CacheUnavailable` instead of answering ``unknown/monitor_error``.
    """

    def __init__(self, redis_url: str, *, timeout: float = 0.05, shards: int = 16, strict: bool = False) -> None:
        self._redis: SyncRedis = connect_sync(redis_url, timeout)
        self._clock, self._shards, self._strict = SharedClock(), shards, strict

    def status(self, name: str, tenant_id: str | None) -> HealthStatus:
        """The effective verdict of one connector of one tenant; None means the service check."""
        pair = Pair(connector_id(name), scope_id(tenant_id))
        shard = keys.shard_of(pair.tenant, self._shards)
        try:
            if self._clock.due:
                self._calibrate()
            wire = cast("bytes | None", self._redis.get(keys.verdict(shard, pair)))
            if wire is None:
                known = cast("Wires", self._redis.mget(_index_keys(shard, pair.tenant)))
                return _missing(pair, known, self._clock.now_ms())
        except AWAY as error:
            return _away(pair, self._clock.now_ms(), error, strict=self._strict)
        return seen(pair, decode(wire), self._clock.now_ms())

    def statuses(self, tenant_id: str | None, names: Iterable[str] | None = None) -> Mapping[str, HealthStatus]:
        """The verdicts of a tenant's connectors: `names` in one round trip, or those it has configured in two.

        Raises:
            CacheUnavailable: Redis is away and `names` was not given (or the view is `strict`).
        """
        tenant = scope_id(tenant_id)
        shard = keys.shard_of(tenant, self._shards)
        try:
            if self._clock.due:
                self._calibrate()
            listed = list(names) if names is not None else self._configured(tenant)
            wires = cast("Wires", self._redis.mget(_page_keys(shard, tenant, listed)))
        except AWAY as error:
            now = self._clock.now_ms()
            if names is None:  # which connectors the tenant has is in Redis too: there is nothing to answer with
                raise CacheUnavailable(_sentence(error)) from error
            return {name: _away(Pair(name, tenant), now, error, strict=self._strict) for name in names}
        return _page(tenant, listed, wires, self._clock.now_ms())

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

    def close(self) -> None:
        """Give the connection back."""
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _configured(self, tenant: str) -> list[str]:
        index = self._redis.get(keys.index(keys.shard_of(tenant, self._shards), tenant))
        return _names(cast("bytes | None", index))

    def _calibrate(self) -> None:
        asked = steady()
        self._clock.calibrate(self._redis.time(), asked)


def _index_keys(shard: int, tenant: str) -> list[str]:
    return [keys.epoch(shard), keys.index(shard, tenant)]


def _page_keys(shard: int, tenant: str, connectors: Sequence[str]) -> list[str]:
    return _index_keys(shard, tenant) + [keys.verdict(shard, Pair(name, tenant)) for name in connectors]


def _page(
    tenant: str, connectors: Sequence[str], wires: Sequence[bytes | None], now_ms: int
) -> dict[str, HealthStatus]:
    page: dict[str, HealthStatus] = {}
    for name, wire in zip(connectors, wires[2:], strict=True):
        pair = Pair(name, tenant)
        page[name] = seen(pair, decode(wire), now_ms) if wire else _missing(pair, wires[:2], now_ms)
    return page


def _missing(pair: Pair, known: Sequence[bytes | None], now_ms: int) -> HealthStatus:
    """No record: not configured if the index of pairs says so, else not checked.

    Without an epoch the index itself is not to be believed: Redis lost it, or nothing ever ran.
    """
    epoch, index = known
    configured = epoch is None or pair.connector in _names(index)
    return absent(pair, Reason.NOT_CHECKED if configured else Reason.NOT_CONFIGURED, now_ms)


def _names(index: bytes | None) -> list[str]:
    return index.decode().split() if index else []


def _away(pair: Pair, now_ms: int, error: BaseException, *, strict: bool) -> HealthStatus:
    if strict:
        raise CacheUnavailable(_sentence(error)) from error
    return absent(pair, Reason.MONITOR_ERROR, now_ms, error=_sentence(error))


def _sentence(error: BaseException) -> str:
    return f"the health cache did not answer ({type(error).__name__}): see whether Redis is up and reachable"
