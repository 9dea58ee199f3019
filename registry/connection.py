"""Connections to Redis, with every timeout set: a Redis that is gone must cost a bounded time."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry as SyncRetry
from redis.typing import EncodableT

from registry.sentinel import Service, is_sentinel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio.client import Pipeline
    from redis.commands.core import AsyncScript

AWAY = (RedisError, OSError, TimeoutError)
"""What a call raises when Redis is away, slow, loading, read-only or out of memory."""

SILENT = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)
"""What a call raises when there is no answer at all."""

__all__ = [
    "AWAY",
    "SILENT",
    "Redis",
    "RedisConnectionError",
    "RedisError",
    "RedisTimeoutError",
    "SyncRedis",
    "connect",
    "connect_sync",
    "execute",
    "script",
]


def connect(url: str, timeout: float, *, retries: int = 1) -> Redis:
    """An asynchronous client of `url`; belongs to the loop that first uses it.

    Args:
        url: as redis-py spells it, or a service behind Sentinels (`registry.sentinel`).
        timeout: seconds to connect, and seconds to answer.
        retries: how often a *broken connection* is made anew and the command sent again. A timeout never is.
    """
    retry = Retry(NoBackoff(), retries, supported_errors=(RedisConnectionError,))
    if is_sentinel(url):
        return _packing(Service.parse(url).client(socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry))
    return _packing(Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry))


_spelled = cast("Callable[..., list[bytes]]", HiredisRespSerializer().pack)


class _Packing(AbstractConnection):
    """Spells commands out in C, as redis-py's synchronous connections do: a batch's in a tenth of the time."""

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """The command as Redis reads it."""
        return _spelled(*args)


def _packing(client: Redis) -> Redis:
    kind = client.connection_pool.connection_class
    client.connection_pool.connection_class = type(kind.__name__, (_Packing, kind), {})
    return client


def connect_sync(url: str, timeout: float, *, retries: int = 1) -> SyncRedis:
    """The synchronous twin of `connect`."""
    retry = SyncRetry(NoBackoff(), retries, supported_errors=(RedisConnectionError,))
    if is_sentinel(url):
        return Service.parse(url).sync_client(socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry)
    return SyncRedis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry)


def script(redis: Redis, *names: str) -> AsyncScript:
    """The files ``registry/lua/<name>.lua``, one after the other as one script: call it with ``keys`` and ``args``."""
    lua = files("registry").joinpath("lua")
    return redis.register_script("".join(lua.joinpath(f"{name}.lua").read_text() for name in names))


async def execute(pipe: Pipeline) -> list[Any]:
    """Send a pipeline that holds scripts in one round trip; redis-py would ask first whether Redis knows them.

    Where it does not (it was restarted), they are loaded, and what was refused for that is sent again.

    Raises:
        The first of the pipeline's errors.
    """
    scripts, commands = list(pipe.scripts), list(pipe.command_stack)
    pipe.scripts.clear()
    answers = await pipe.execute(raise_on_error=False)
    unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        for missing in scripts:
            await cast("Awaitable[str]", missing.registered_client.script_load(missing.script))
        pipe.command_stack.extend(commands[at] for at in unknown)
        for at, answer in zip(unknown, await pipe.execute(raise_on_error=False), strict=True):
            answers[at] = answer
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
