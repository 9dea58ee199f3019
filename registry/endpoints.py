"""The addresses that are checked without a credential: every connector's own, and each one tenants have brought along.

One service check an endpoint, whatever the number of tenants behind it, tells a vendor's outage from their credentials.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, cast

import structlog
from redis.typing import EncodableT
from yarl import URL

from registry import keys
from registry.catalog import Catalog
from registry.connection import Redis
from registry.connector import ConnectorConfig
from registry.errors import ConnectorError
from registry.ids import SYSTEM, Pair
from registry.schedule import Entry, Schedule, Scheduled
from registry.settings import Settings

log = structlog.get_logger(__name__)


class Endpoint(NamedTuple):
    """An address of a connector."""

    connector: str
    base_url: str

    @property
    def name(self) -> str:
        """What incidents and limits are about: ``connector|host``."""
        return f"{self.connector}|{_host(self.base_url)}"


class Endpoints:
    """Knows where each configuration leads, and keeps a service check scheduled for every such place."""

    def __init__(self, redis: Redis, schedule: Schedule, catalog: Catalog, settings: Settings) -> None:
        self._redis, self._schedule, self._catalog, self._settings = redis, schedule, catalog, settings

    def of(self, scheduled: Scheduled) -> Endpoint:
        """Where a check goes: the configuration's address, the operator's, or the vendor's own.

        Raises:
            ConnectorError: the connector cannot be loaded.
        """
        name = scheduled.pair.connector
        return Endpoint(name, scheduled.base_url or self._address(name, scheduled.config))

    def located(self, connector: str, config: ConnectorConfig) -> ConnectorConfig:
        """The configuration with the operator's replacement of the vendor's address filled in, if there is one."""
        url = self._settings.vendor_urls.get(connector)
        return config.model_copy(update={"base_url": url}) if url and not config.base_url else config

    def own(self, connector: str) -> Endpoint:
        """Where the checks of whoever brings no address along go: to the operator's, or the vendor's own.

        Raises:
            ConnectorError: the connector cannot be loaded.
        """
        return Endpoint(connector, self._address(connector, None))

    async def tell(self, configs: Iterable[tuple[Pair, ConnectorConfig]], now_ms: int) -> None:
        """Remember the addresses of these configurations; a vendor's own need not be remembered."""
        told = {place for pair, config in configs if (place := self._brought(pair, config))}
        if told:
            fields: dict[EncodableT, EncodableT] = {f"{place.connector} {place.base_url}": now_ms for place in told}
            await self._redis.hset(keys.ENDPOINTS, mapping=fields)

    async def forget(self, before_ms: int) -> None:
        """Give up the service checks of addresses that no configuration has told since."""
        for place, told_ms in (await self._told()).items():
            if told_ms < before_ms:
                await self._redis.hdel(keys.ENDPOINTS, f"{place.connector} {place.base_url}")
                (known,) = await self._schedule.get([_pair(place)])
                if known is not None:
                    await self._schedule.remove(known.pair, known.revision)

    async def service_checks(self) -> dict[Pair, Endpoint]:
        """Every service check there is to be, and the address it checks."""
        checks: dict[Pair, Endpoint] = {}
        for name in self._catalog.list():
            try:
                if self._catalog.load(name).cls is not None:
                    checks[Pair(name, SYSTEM)] = Endpoint(name, self._address(name, None))
            except ConnectorError as error:
                log.warning("connector_unusable", connector=name, error=str(error))
        return checks | {_pair(place): place for place in await self._told() if Pair(place.connector, SYSTEM) in checks}

    async def schedule_checks(self) -> None:
        """See to it that every service check is scheduled, for its present address; at once when it has no turn."""
        checks, entries = await self.service_checks(), list[Entry]()
        for (pair, place), known in zip(checks.items(), await self._schedule.get(list(checks)), strict=True):
            same = known is not None and known.base_url == place.base_url
            revision = (known.revision if known else 0) + (not same)
            entries.append(Entry(pair, revision, None, reset=True, base_url=place.base_url))
        await self._schedule.put_many(entries)

    def _address(self, name: str, config: ConnectorConfig | None) -> str:
        loaded = self._catalog.load(name)
        address = getattr(loaded.factory, "address", None)
        if config is not None and address is not None:
            return str(address(self.located(name, config)))
        own = config.base_url if config else None
        return own or self._settings.vendor_urls.get(name) or loaded.manifest.default_base_url

    def _brought(self, pair: Pair, config: ConnectorConfig) -> Endpoint | None:
        """The address of a configuration, if it is another than the connector's own."""
        try:
            place = Endpoint(pair.connector, self._address(pair.connector, config))
            return place if place.base_url != self._address(pair.connector, None) else None
        except Exception:  # noqa: BLE001 - isolation: its own check tells what is wrong with it
            return None

    async def _told(self) -> dict[Endpoint, int]:
        wire = cast("Mapping[bytes, bytes]", await self._redis.hgetall(keys.ENDPOINTS))
        return {Endpoint(*name.decode().split(" ", 1)): int(told) for name, told in wire.items()}


@lru_cache(maxsize=4096)
def _host(base_url: str) -> str:
    """The server, spelled in one way: in small letters, and without the usual port."""
    return URL(base_url).host_port_subcomponent or ""


def _pair(place: Endpoint) -> Pair:
    """The service check's place in the schedule; its scope lies outside the alphabet of tenants."""
    return Pair(place.connector, SYSTEM + blake2b(place.base_url.encode(), digest_size=8).hexdigest())
