"""From a tenant's configuration to its connector, secrets resolved."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from registry.catalog import Loaded
from registry.check import build
from registry.configuring import parse_config
from registry.connection import AWAY
from registry.connector import Connector, ConnectorConfig
from registry.errors import ConnectorUnusable, InvalidConfig, RegistryError, StoreUnavailable
from registry.ids import Pair
from registry.instances import Build
from registry.schedule import Scheduled

if TYPE_CHECKING:
    from registry.bootstrap import Parts

Override = Mapping[str, object] | ConnectorConfig


class Builder:
    """Builds connectors of configured pairs. The store is the truth; the schedule knows when to ask it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def known(self, pair: Pair) -> int | None:
        """The revision that the schedule has of the pair; None when it has none, or Redis is away."""
        scheduled = await self._scheduled(pair)
        return scheduled.revision if scheduled else None

    async def source(self, pair: Pair) -> tuple[int, Build]:
        """The pair's revision now and how to build its connector; the schedule's copy stands in for a store away.

        Raises:
            UnknownConnector, ConnectorUnusable, IncompatibleConnector, NotConfigured, StoreUnavailable
        """
        loaded = self._parts.catalog.load(pair.connector)
        revision, config = await self._configuration(pair)

        async def make() -> Connector:
            return await self._build(pair, loaded, config)

        return revision, make

    async def special(self, pair: Pair, override: Override) -> Connector:
        """A connector for one caller alone, from the stored configuration and what is laid over it.

        Raises:
            UnknownConnector, NotConfigured, InvalidConfig, SecretError, StoreUnavailable
        """
        loaded = self._parts.catalog.load(pair.connector)
        _, stored = await self._configuration(pair)
        config = self._parts.configurations.validate(pair, _overridden(pair, stored, override))
        return await self._build(pair, loaded, config)

    async def _configuration(self, pair: Pair) -> tuple[int, ConnectorConfig]:
        try:
            stored = await self._parts.store.get_config(pair)
        except StoreUnavailable:
            scheduled = await self._scheduled(pair)
            if scheduled is None or scheduled.config is None:
                raise
            return scheduled.revision, scheduled.config
        return stored.revision, stored.config

    async def _scheduled(self, pair: Pair) -> Scheduled | None:
        try:
            async with asyncio.timeout(self._parts.settings.read_timeout):
                return (await self._parts.schedule.get([pair]))[0]
        except AWAY:
            return None

    async def _build(self, pair: Pair, loaded: Loaded, config: ConnectorConfig) -> Connector:
        loaded.validate(config)
        resolved = await self._parts.secrets.resolve(pair, self._parts.endpoints.located(pair.connector, config))
        try:
            # A copy: configurations that are read alike are shared, and whoever gets the connector could change it.
            return await build(loaded.factory, resolved.model_copy(deep=True))
        except RegistryError:
            raise
        except Exception as error:  # noqa: BLE001 - a factory may fail in any way, and its words may hold the secret
            raise ConnectorUnusable(f"{pair}: the connector's factory failed with {type(error).__name__}") from None


def _overridden(pair: Pair, stored: ConnectorConfig, override: Override) -> ConnectorConfig:
    if isinstance(override, ConnectorConfig):
        return override
    for name in ("tenant_id", "tenant"):
        if name in override:
            raise InvalidConfig(f"an override cannot change the tenant ({name}): ask for that tenant's connector")
    return parse_config(pair, _merged(stored.model_dump(exclude_none=True), override))


def _merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """A deep merge: an override of ``auth.token`` keeps the rest of ``auth``."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged
