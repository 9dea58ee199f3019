"""Redis behind Sentinel: ``redis+sentinel://[user:password@]host[:port],host[:port]/service[/database]``.

Every new connection asks the Sentinels who the master is, so clients follow a failover by themselves.
``rediss+sentinel`` speaks TLS to Redis and Sentinels; ``?sentinel_username=…&sentinel_password=…`` is for Sentinels
that want their own. https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.sentinel import Sentinel as SyncSentinel
from redis.sentinel import SentinelConnectionPool as SyncSentinelConnectionPool

from registry.errors import InvalidConfig

PORT = 26379
LONGEST = 1.0
"""Seconds one Sentinel is asked for, at most."""

SCHEMES = ("redis+sentinel", "rediss+sentinel")


@dataclass(frozen=True, slots=True)
class Service:
    """A master by the name its Sentinels know it by."""

    sentinels: tuple[tuple[str, int], ...]
    name: str
    database: int
    tls: bool
    login: dict[str, str]
    sentinel_login: dict[str, str]

    @classmethod
    def parse(cls, url: str) -> Service:
        """Raises `InvalidConfig`; the message does not repeat the URL, which may hold a password."""
        parts = urlsplit(url)
        who, _, hosts = parts.netloc.rpartition("@")
        name, _, database = parts.path.strip("/").partition("/")
        try:
            sentinels = tuple(_address(host) for host in hosts.split(","))
            number = int(database or 0)
        except ValueError:
            raise InvalidConfig(f"not host:port,host:port/service/database: {hosts}{parts.path}") from None
        if not name:
            raise InvalidConfig(f"a Sentinel URL ends with the service's name, and a database: {hosts}/mymaster/1")
        user, _, password = who.partition(":")
        given = dict(parse_qsl(parts.query))
        return cls(
            sentinels,
            unquote(name),
            number,
            parts.scheme.startswith("rediss"),
            _present(username=unquote(user), password=unquote(password)),
            _present(username=given.get("sentinel_username"), password=given.get("sentinel_password")),
        )

    def _asking(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options for Sentinels: they are asked in turn, and one that is dead leaves the others their time."""
        share = min(LONGEST, options["socket_connect_timeout"] / (len(self.sentinels) + 1))
        return {**options, **self.sentinel_login, "socket_timeout": share, "socket_connect_timeout": share}

    def client(self, **options: object) -> Redis:
        """An asynchronous client of the master; `options` are those of redis-py's connections."""
        shared = {**options, "ssl": self.tls}
        manager = Sentinel(self.sentinels, sentinel_kwargs=self._asking(shared))  # type: ignore[no-untyped-call]  # redis-py's
        wanted: dict[str, Any] = {**shared, **self.login, "db": self.database}
        client: Redis = manager.master_for(self.name, connection_pool_class=_Pool, **wanted)
        return client

    def sync_client(self, **options: object) -> SyncRedis:
        """The synchronous twin of `client`."""
        shared = {**options, "ssl": self.tls}
        manager = SyncSentinel(self.sentinels, sentinel_kwargs=self._asking(shared))  # type: ignore[no-untyped-call]  # redis-py's
        wanted: dict[str, Any] = {**shared, **self.login, "db": self.database}
        client: SyncRedis = manager.master_for(self.name, connection_pool_class=_SyncPool, **wanted)  # type: ignore[no-untyped-call]  # redis-py's
        return client


class _Pool(SentinelConnectionPool):
    """Closes what it asked the Sentinels with, too."""

    async def aclose(self) -> None:
        await super().aclose()
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


class _SyncPool(SyncSentinelConnectionPool):
    def close(self) -> None:
        super().close()
        self.sentinel_manager.close()


def is_sentinel(url: str) -> bool:
    """Does `url` name a service behind Sentinels?"""
    return urlsplit(url).scheme in SCHEMES


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError(host)
    return parts.hostname, parts.port or PORT


def _present(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
