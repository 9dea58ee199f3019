"""`ConnectorRegistry`: what an orchestrator's author holds in the hand."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from registry import keys
from registry.check import build
from registry.configuring import parse_config
from registry.connection import LockError
from registry.connector import Connector, ConnectorConfig, ConnectorFactory, ConnectorMetadata
from registry.errors import ConnectorUnhealthy, IncompatibleConnector, InvalidConfig, UnknownConnector
from registry.health import HealthStatus, Reason, Status
from registry.ids import Pair, connector_id, scope_id
from registry.ids import tenant_id as valid_tenant
from registry.instances import Instances
from registry.record import absent, seen, seen_alone
from registry.recording import Outcome
from registry.route import Route, choose
from registry.schedule import Scheduled
from registry.stores import StoredConfig

if TYPE_CHECKING:
    from registry.bootstrap import Parts

POLL = 0.02
"""Seconds between two looks at the cache while another process makes the check we wait for."""


class ConnectorRegistry:
    """Connectors and their health, for every tenant.

    Build one with `registry.create_registry`; use it as an async context manager, or call `aclose`. It belongs to
    the event loop that uses it. Reading health never calls a vendor or the configuration store.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._instances = Instances()

    def register(self, name: str, factory: ConnectorFactory, *, manifest: ConnectorMetadata | None = None) -> None:
        """Add a connector; `manifest` may be left out when `factory` is a class that carries one.

        Raises:
            InvalidId: the name is outside the alphabet.
            DuplicateConnector: the name is taken. Nothing was changed.
        """
        self._parts.catalog.register(name, factory, manifest=manifest)

    async def unregister(self, name: str) -> None:
        """Forget a connector and close every tenant's instance of it. Raises `UnknownConnector`."""
        self._parts.catalog.unregister(name)
        await self._instances.drop(lambda pair: pair.connector == name)

    def has(self, name: str) -> bool:
        """Is a connector of that name registered?"""
        return self._parts.catalog.has(name)

    def list(self) -> builtins.list[str]:
        """The registered names, sorted."""
        return self._parts.catalog.list()

    async def get_metadata(self, name: str) -> ConnectorMetadata:
        """The static manifest: no instance, no network. Raises `UnknownConnector`, `ConnectorUnusable`."""
        return self._parts.catalog.load(name).manifest

    def get_version(self, name: str) -> str:
        """The connector's version, from its manifest. Raises `UnknownConnector`, `ConnectorUnusable`."""
        return self._parts.catalog.load(name).manifest.version

    async def is_compatible(self, name: str) -> bool:
        """Does the connector's manifest accept this framework's version? Raises `UnknownConnector`."""

        try:
            self._parts.catalog.load(name)
        except IncompatibleConnector:
            return False
        return True

    async def get(
        self,
        name: str,
        *,
        tenant_id: str,
        config: Mapping[str, object] | ConnectorConfig | None = None,
        skip_health_check: bool = False,
    ) -> Connector:
        """This tenant's connector, ready to use.

        Args:
            config: overrides, merged deeply over the stored configuration; the result is built for this call only
                and never shared, and the caller closes it.
            skip_health_check: hand it out even if its verdict is unhealthy. An unknown verdict never hinders.

        Raises:
            UnknownConnector, NotConfigured, InvalidConfig, SecretError, StoreUnavailable
            ConnectorUnhealthy: its `status` says why and what to do.
        """
        pair = Pair(connector_id(name), valid_tenant(tenant_id))
        loaded = self._parts.catalog.load(name)
        if not skip_health_check:
            status = await self._parts.cache.status(pair)
            if status.status is Status.UNHEALTHY:
                raise ConnectorUnhealthy(status)
        stored = await self._parts.store.get_config(pair)

        if config is not None:
            merged = self._parts.configurations.validate(pair, _overridden(pair, stored.config, config))
            return await build(loaded.factory, await self._parts.secrets.resolve(pair, merged))

        async def make() -> Connector:
            loaded.validate(stored.config)
            return await build(loaded.factory, await self._parts.secrets.resolve(pair, stored.config))

        return await self._instances.get(pair, stored.revision, make)

    async def set_config(
        self,
        name: str,
        config: Mapping[str, object] | ConnectorConfig,
        *,
        tenant_id: str,
        actor: str,
        expected: int | None = None,
    ) -> StoredConfig:
        """Store a tenant's configuration; clear secrets in it are sealed first, and the pair is checked at once.

        Args:
            actor: who changes it, for the history.
            expected: the revision this replaces (0: there must be none); None overwrites.

        Raises:
            UnknownConnector, InvalidConfig, ConflictError, SecretError, StoreUnavailable
        """
        pair = Pair(connector_id(name), valid_tenant(tenant_id))
        stored = await self._parts.configurations.set(pair, config, actor=actor, expected=expected)
        await self._instances.drop(lambda other: other == pair)
        return stored

    async def dry_run(
        self, name: str, config: Mapping[str, object] | ConnectorConfig, *, tenant_id: str
    ) -> HealthStatus:
        """What a check of this configuration would say, now. Nothing is stored, sealed or recorded.

        Raises:
            UnknownConnector, InvalidConfig
        """
        parts, pair = self._parts, Pair(connector_id(name), valid_tenant(tenant_id))
        valid = parts.configurations.validate(pair, config)
        return seen_alone(pair, await parts.checker.check(Scheduled(pair, 0, valid)), parts.clock.now_ms())

    async def get_config(self, name: str, *, tenant_id: str) -> StoredConfig:
        """A tenant's stored configuration (secret references only). Raises `NotConfigured`, `StoreUnavailable`."""
        return await self._parts.store.get_config(Pair(connector_id(name), valid_tenant(tenant_id)))

    async def delete_config(self, name: str, *, tenant_id: str, actor: str, expected: int | None = None) -> None:
        """Delete a tenant's configuration and close its instance. Raises `NotConfigured`, `ConflictError`."""
        pair = Pair(connector_id(name), valid_tenant(tenant_id))
        await self._parts.configurations.delete(pair, actor=actor, expected=expected)
        await self._instances.drop(lambda other: other == pair)

    async def health_check(
        self, name: str, *, tenant_id: str | None = None, max_age: float | None = None
    ) -> HealthStatus:
        """The effective verdict of one pair, from the cache.

        Args:
            tenant_id: None means the service check, which belongs to no tenant.
            max_age: check now if the verdict is older than so many seconds (one process does, the others wait for
                it). None never makes a check.

        Raises:
            UnknownConnector: no connector of that name is registered.
        """
        pair = Pair(connector_id(name), scope_id(tenant_id))
        if not self.has(name):
            raise UnknownConnector(f"no connector {name!r} is registered; there are: {', '.join(self.list())}")
        status = await self._parts.cache.status(pair)
        if max_age is None or (status.age is not None and status.age <= max_age and not status.stale):
            return status
        if status.reason in (Reason.NOT_CONFIGURED, Reason.MONITOR_ERROR) and status.checked_ms is None:
            return status
        return await self._check_once(pair, status)

    async def health_check_all(self, *, tenant_id: str | None = None) -> dict[str, HealthStatus]:
        """The verdicts of every registered connector for one tenant, in one round trip."""
        return await self._parts.cache.statuses(scope_id(tenant_id), self.list())

    async def get_healthy(self, *, tenant_id: str | None = None) -> builtins.list[str]:
        """The usable connectors (healthy or degraded) of a tenant, sorted."""
        return [name for name, status in (await self.health_check_all(tenant_id=tenant_id)).items() if status.healthy]

    async def route(self, names: Sequence[str], *, tenant_id: str) -> Route:
        """The first usable connector of `names`, healthy before degraded, with the refusal of each other."""
        return choose(names, await self._parts.cache.statuses(valid_tenant(tenant_id), names))

    async def aclose(self) -> None:
        """Close every instance and connection."""
        await self._instances.aclose()
        await self._parts.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _check_once(self, pair: Pair, before: HealthStatus) -> HealthStatus:
        """Make the check, unless another process is at it or has just done it: then its result is the answer."""
        parts, timeout = self._parts, self._parts.settings.check_timeout
        lock = parts.redis.lock(keys.lock(parts.schedule.shard(pair), pair), timeout=timeout + 2, blocking=False)
        if not await lock.acquire():
            return await self._wait(pair, before, timeout)
        try:
            status = await parts.cache.status(pair)
            return status if status.version != before.version else await self._check_now(pair)
        finally:
            with suppress(LockError):  # it expired: nothing is ours to give back
                await lock.release()

    async def _check_now(self, pair: Pair) -> HealthStatus:
        parts = self._parts
        task = await parts.schedule.task(pair)
        if task is None:
            return absent(pair, Reason.NOT_CONFIGURED, parts.clock.now_ms())
        verdict = await parts.checker.check(task.scheduled)
        record = (await parts.recorder.record([Outcome(task, verdict, parts.checker.endpoint(task.scheduled))])).get(
            pair
        )
        return seen(pair, record, parts.clock.now_ms()) if record else await parts.cache.status(pair)

    async def _wait(self, pair: Pair, before: HealthStatus, timeout: float) -> HealthStatus:
        status = before
        try:
            async with asyncio.timeout(timeout + 2):
                while status.version == before.version:
                    await asyncio.sleep(POLL)
                    status = await self._parts.cache.status(pair)
        except TimeoutError:
            pass  # the other process died or is slow: what the cache says, stale as it may be, is the answer
        return status


def _overridden(pair: Pair, stored: ConnectorConfig, config: Mapping[str, object] | ConnectorConfig) -> ConnectorConfig:
    if isinstance(config, ConnectorConfig):
        return config
    for name in ("tenant_id", "tenant"):
        if name in config:
            raise InvalidConfig(f"an override cannot change the tenant ({name}): ask for that tenant's connector")
    return parse_config(pair, _merged(stored.model_dump(exclude_none=True), config))


def _merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """A deep merge: an override of ``auth.token`` keeps the rest of ``auth``."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged
