"""How the addresses among the settings may look: what could never be reached is told at once, and is not repeated."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import AfterValidator

REDIS = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
"""Schemes that `registry.connection` reads."""

BROKER = ("redis", "rediss", "redis+socket", "sentinel", "unix")
"""Schemes that Celery reads, and redis-py's word for `redis+socket`, which is put into Celery's."""

_MANY_HOSTS = ("redis+sentinel", "rediss+sentinel", "sentinel")


def redis_address(address: str) -> str:
    """The address. Raises `ValueError` without repeating it, for it may hold a password."""
    return _address(address, REDIS)


def broker_address(address: str) -> str:
    """As `redis_address`, in Celery's spelling: `unix://` is its `redis+socket://`, `db` its `virtual_host`."""
    parts = urlsplit(_address(address, BROKER))
    if parts.scheme != "unix":
        return address
    query = dict(parse_qsl(parts.query))
    query = {"virtual_host": query.pop("db", "0"), **query}
    return f"redis+socket://{parts.netloc}{parts.path}?{urlencode(query)}"


def web_address(address: str) -> str:
    """As `redis_address`, to be called over HTTP; an empty one is none."""
    return _address(address, ("https", "http")) if address else address


def gateway_address(address: str) -> str:
    """As `web_address`, where ``host:port`` alone is one over HTTP."""
    web_address(address if "://" in address else f"http://{address}")
    return address


def _address(address: str, schemes: tuple[str, ...]) -> str:
    scheme, _, rest = address.partition("://")
    if not rest or scheme not in schemes:
        raise ValueError(f"expected an address that begins with {', '.join(f'{name}://' for name in schemes)}")
    try:
        _ = scheme in _MANY_HOSTS or urlsplit(address).port  # reading the port is what checks it
    except ValueError:
        raise ValueError("expected host:port in it, with a port from 0 to 65535") from None
    return address


RedisAddress = Annotated[str, AfterValidator(redis_address)]
BrokerAddress = Annotated[str, AfterValidator(broker_address)]
WebAddress = Annotated[str, AfterValidator(web_address)]
GatewayAddress = Annotated[str, AfterValidator(gateway_address)]
