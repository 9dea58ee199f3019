"""`ConnectorRegistry`: what an orchestrator's author holds in the hand."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog

from registry.announcing import Announcement
from registry.building import Builder
from registry.connection import AWAY
from registry.connector import Connector, ConnectorConfig, ConnectorFactory, ConnectorMetadata
from registry.errors import ConnectorUnhealthy, IncompatibleConnector
from registry.health import HealthStatus, Reason, Status
from registry.ids import Pair, connector_id
from registry.ids import tenant_id as valid_tenant
from registry.instances import Instance, Instances
from registry.reader import HealthReader
from registry.stores import StoredConfig

if TYPE_CHECKING:
    from registry.bootstrap import Parts

log = structlog.get_logger(__name__)


class ConnectorRegistry(HealthReader):
    """Connectors and their health, for every tenant.

    Build one with `registry.create_registry`; use it as an async context manager, or call `aclose`. It belongs to
    the event loop and the process that first use it: from another one every coroutine raises `WrongLoop`. Reading
    health never calls a vendor or the configuration store.

    >>> import registry
    >>> reg = registry.create_registry()
    >>> reg.has("slack"), reg.has("fax")
    (True, False)
    >>> async def works(tenant: str) -> bool:
    ...     return (await reg.health_check("slack", tenant_id=tenant)).healthy
    """

    def __init__(self, parts: Parts) -> None:
        settings = parts.settings
        super().__init__(parts)
        self._builder = Builder(parts)
        self._instances = Instances(
            capacity=settings.instance_capacity,
            idle=settings.instance_idle,
            grace=settings.instance_grace,
            renew=settings.secret_ttl,
        )
        parts.announcements.hear(self._hear)

    def register(self, name: str, factory: ConnectorFactory, *, manifest: ConnectorMetadata | None = None) -> None:
        """Add a connector; `manifest` may be left out when `factory` is a class that carries one.

        Raises:
            InvalidId: the name is outside the alphabet.
            DuplicateConnector: the name is taken. Nothing was changed.
        """
        self._parts.catalog.register(name, factory, manifest=manifest)

    async def unregister(self, name: str) -> None:
        """Forget a connector, here and in every running replica, and close every tenant's instance of it.

        What is configured stays configured: a replica that registers the connector again goes on with it.

        Raises:
            UnknownConnector: no connector of that name is registered.
        """
        self._here()
        self._parts.catalog.unregister(name)
        try:
            await self._parts.announcements.unregistered(name)
        except AWAY as error:
            log.warning("others_not_told", connector=name, error=type(error).__name__)
        await self._instances.settle()

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
        """This tenant's connector, ready to use, for a moment: ask again for every piece of work.

        Nobody tells when its use ends, so once it is replaced (the configuration changed, another pair needs the
        place) it is closed ``INSTANCE_GRACE`` seconds after it was last handed out. Longer work belongs in `use`.

        Args:
            config: overrides, merged deeply over the stored configuration; the result is built for this call only
                and never shared, and the caller closes it.
            skip_health_check: hand it out even if its verdict is unhealthy. An unknown verdict never hinders.

        Raises:
            UnknownConnector, NotConfigured, InvalidConfig, SecretError, StoreUnavailable
            ConnectorUnusable: the connector's own code failed.
            ConnectorUnhealthy: its `status` says why and what to do.
        """
        pair = await self._admitted(name, tenant_id, skip_health_check=skip_health_check)
        if config is not None:
            return await self._builder.special(pair, config)
        return self._instances.lend(await self._held(pair))

    @asynccontextmanager
    async def use(
        self,
        name: str,
        *,
        tenant_id: str,
        config: Mapping[str, object] | ConnectorConfig | None = None,
        skip_health_check: bool = False,
    ) -> AsyncIterator[Connector]:
        """This tenant's connector for as long as the ``async with`` block takes: it is never closed within.

        Arguments and errors are those of `get`; with `config`, the connector is closed at the end of the block.
        """
        pair = await self._admitted(name, tenant_id, skip_health_check=skip_health_check)
        if config is not None:
            special = await self._builder.special(pair, config)
            try:
                yield special
            finally:
                await special.aclose()
            return
        instance = await self._held(pair)
        try:
            yield instance.connector
        finally:
            self._instances.give_back(instance)

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

        Every replica hears of it within a second. A change of credential, endpoint or settings voids the verdict.

        Args:
            actor: who changes it, for the history.
            expected: the revision this replaces (0: there must be none); None overwrites.

        Raises:
            UnknownConnector, InvalidConfig, ConflictError, SecretError, StoreUnavailable
        """
        self._here()
        pair = Pair(connector_id(name), valid_tenant(tenant_id))
        stored = await self._parts.configurations.set(pair, config, actor=actor, expected=expected)
        await self._instances.settle()
        return stored

    async def dry_run(
        self, name: str, config: Mapping[str, object] | ConnectorConfig, *, tenant_id: str
    ) -> HealthStatus:
        """What a check of this configuration would say, now. Nothing is stored, sealed or recorded.

        Where a budget is used up, it is ``not_checked``, and `put_off_until` tells when there is room again.

        Raises:
            UnknownConnector, InvalidConfig
            CacheUnavailable: there are budgets, and what is left of them cannot be told.
        """
        self._here()
        pair = Pair(connector_id(name), valid_tenant(tenant_id))
        return await self._demand.try_out(pair, self._parts.configurations.validate(pair, config))

    async def get_config(self, name: str, *, tenant_id: str) -> StoredConfig:
        """A tenant's stored configuration (secret references only). Raises `NotConfigured`, `StoreUnavailable`."""
        self._here()
        return await self._parts.store.get_config(Pair(connector_id(name), valid_tenant(tenant_id)))

    async def delete_config(self, name: str, *, tenant_id: str, actor: str, expected: int | None = None) -> None:
        """Delete a tenant's configuration and close its instance, in every replica.

        Raises:
            NotConfigured, ConflictError, StoreUnavailable
        """
        self._here()
        pair = Pair(connector_id(name), valid_tenant(tenant_id))
        await self._parts.configurations.delete(pair, actor=actor, expected=expected)
        await self._instances.settle()

    async def rotate(self, name: str, *, tenant_id: str) -> None:
        """A secret was replaced behind its reference: forget the old one everywhere, and check the pair at once.

        Not needed after `set_config`, which does the same.

        Raises:
            CacheUnavailable: it is forgotten here, but the other replicas could not be told.
        """
        self._here()
        await self._parts.configurations.rotate(Pair(connector_id(name), valid_tenant(tenant_id)))
        await self._instances.settle()

    async def aclose(self) -> None:
        """Close every instance, in use or not, and every connection."""
        self._here()
        await self._instances.aclose()
        await self._parts.aclose()

    async def __aenter__(self) -> Self:
        self._here()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _admitted(self, name: str, tenant_id: str, *, skip_health_check: bool) -> Pair:
        """The pair, if it may be handed out."""
        self._here()
        pair = Pair(connector_id(name), valid_tenant(tenant_id))
        self._parts.catalog.load(name)
        if not skip_health_check:
            status = await self._parts.cache.status(pair)
            if status.status is Status.UNHEALTHY:
                if status.reason is Reason.CREDENTIAL_REJECTED:
                    self._hear(Announcement(*pair))  # its secret may be replaced before we hear of it
                raise ConnectorUnhealthy(status)
        return pair

    async def _held(self, pair: Pair) -> Instance:
        await self._parts.announcements.start()
        known = await self._builder.known(pair)
        return await self._instances.hold(pair, known, lambda: self._builder.source(pair))

    def _hear(self, announcement: Announcement | None) -> None:
        """Let go of the instances that an announcement makes outdated; None: of all."""
        if announcement is None:
            self._instances.retire(lambda _: True)
        elif announcement.pair is not None:
            self._instances.retire(lambda pair: pair == announcement.pair, before=announcement.revision)
        else:
            if self.has(announcement.connector):
                self._parts.catalog.unregister(announcement.connector)
            self._instances.retire(lambda pair: pair.connector == announcement.connector)
