"""A lease: one process at a time does a thing, and its successor can tell its own writes from the late ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import WatchError

from registry import keys
from registry.connection import Redis, script

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline


class Lease:
    """The right to be the one `name` (``publisher``, ``reconciler``), held in Redis by `owner`.

    The fence grows with every change of owner, even where Redis lost its data in between. A lease is never given back:
    it ends when it is not extended.
    """

    def __init__(self, redis: Redis, name: str, owner: str) -> None:
        self._script = script(redis, "lease")
        self._key, self._owner = keys.lease(name), owner

    async def hold(self, ttl: float) -> int:
        """Take or extend the lease for `ttl` seconds; returns the fence, or 0 when somebody else holds it."""
        return int(await self._script(keys=[self._key], args=[self._owner, int(ttl * 1000)]))

    async def fenced(self, pipe: Pipeline, fence: int) -> None:
        """Begin a transaction that changes nothing once somebody else has the lease.

        Raises:
            WatchError: somebody else has it already. Later, it is the transaction's `execute` that raises this.
        """
        await pipe.watch(self._key)
        if await pipe.hget(self._key, "fence") != str(fence).encode():
            raise WatchError("the lease is somebody else's")
        pipe.multi()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
