"""A lease: one process at a time does a thing, and its successor can tell its own writes from the late ones."""

from __future__ import annotations

from registry import keys
from registry.connection import Redis, script


class Lease:
    """The right to be the one `name` (``publisher``, ``reconciler``), held in Redis by `owner`.

    The fence grows with every change of owner. A lease is never given back: it ends when it is not extended.
    """

    def __init__(self, redis: Redis, name: str, owner: str) -> None:
        self._script = script(redis, "lease")
        self._key, self._owner = keys.lease(name), owner

    async def hold(self, ttl: float) -> int:
        """Take or extend the lease for `ttl` seconds; returns the fence, or 0 when somebody else holds it."""
        return int(await self._script(keys=[self._key], args=[self._owner, int(ttl * 1000)]))
