"""One comparison of the schedule with all the store has: how far it has come, and whom it has met.

It takes as many rounds as it needs, of whichever process. In every shard it leaves a mark as it begins: a shard that
loses its data loses the mark as well, so that none is declared complete without what was entered before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast
from uuid import uuid4

from redis.typing import EncodableT

from registry import keys
from registry.catalog import Catalog
from registry.connection import Redis, execute, script
from registry.ids import Pair
from registry.stores import Changes

SEEN_TTL = 3600
"""Seconds for which it is kept whom a comparison has met, should nobody end it."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A comparison that is going on.

    Args:
        mark: what tells it from every other one.
        cursor: where the store's changes go on; None at the beginning.
        refill: it fills a schedule that was lost: nothing is due at once, or all would be.
        from_ms: when it began (Unix ms).
    """

    mark: str
    cursor: str | None
    refill: bool
    from_ms: int

    @classmethod
    def of(cls, progress: Mapping[str, str]) -> Walk | None:
        """The one that earlier rounds have left in `keys.CURSOR`, if any."""
        if "walk" not in progress:
            return None
        mark, _, cursor = progress["walk"].partition(" ")
        return cls(mark, cursor or None, progress.get("refill") == "1", int(progress.get("from_ms", 0)))

    @property
    def wire(self) -> dict[EncodableT, EncodableT]:
        """Its fields in `keys.CURSOR`. Mark and place are one field, so that nobody goes on at another one's place."""
        place = f"{self.mark} {self.cursor or ''}"
        return {"walk": place, "refill": str(int(self.refill)), "from_ms": str(self.from_ms)}


class Walks:
    """Begins comparisons and ends them. Every method raises what redis-py raises."""

    def __init__(self, redis: Redis, catalog: Catalog, *, shards: int) -> None:
        self._redis, self._catalog, self._shards = redis, catalog, shards
        self._complete = script(redis, "complete")

    async def begin(self, now: int, *, refill: bool) -> Walk:
        """Begin at the store's first change; another that is going on ends in vain."""
        walk = Walk(uuid4().hex, None, refill, now)
        async with self._redis.pipeline(transaction=False) as pipe:
            for shard in range(self._shards):
                pipe.set(keys.walk(shard), walk.mark)
            pipe.hset(keys.CURSOR, mapping=walk.wire)
            await pipe.execute()
        return walk

    async def advance(self, walk: Walk, page: Changes) -> Walk | None:
        """Note whom it has met on a page, and that it goes on behind that; None when it would do so in vain."""
        walk = replace(walk, cursor=page.cursor)
        async with self._redis.pipeline(transaction=False) as pipe:
            for change in page.items:
                if not change.deleted:
                    shard = keys.shard_of(change.pair.tenant, self._shards)
                    seen = keys.seen(shard, change.pair.connector, walk.mark)
                    pipe.sadd(seen, change.pair.tenant)
                    pipe.expire(seen, SEEN_TTL)
            pipe.hset(keys.CURSOR, mapping=walk.wire)
            pipe.mget([keys.walk(shard) for shard in range(self._shards)])
            marks = (await pipe.execute())[-1]
        return walk if all(mark == walk.mark.encode() for mark in marks) else None

    async def strangers(self, walk: Walk) -> tuple[list[Pair], int]:
        """The scheduled pairs that it has not met, and how many it has."""
        strangers, met = list[Pair](), 0
        for shard, name in self._places():
            seen = keys.seen(shard, name, walk.mark)
            found = cast("list[bytes]", await self._redis.zdiff([keys.due(shard, name), seen]))
            strangers += [pair for tenant in found if not (pair := Pair(name, tenant.decode())).is_service]
            met += int(await self._redis.scard(seen))
        return strangers, met

    async def complete(self, walk: Walk, now: int) -> bool:
        """Declare every shard complete that has kept what was entered since it began; is that all of them?"""
        async with self._redis.pipeline(transaction=False) as pipe:
            for shard in range(self._shards):
                script_keys = [keys.walk(shard), keys.epoch(shard)]
                await self._complete(keys=script_keys, args=[walk.mark, now], client=pipe)
            return all(await execute(pipe))

    async def end(self, walk: Walk) -> None:
        """Forget it, in vain or not."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(*[keys.seen(shard, name, walk.mark) for shard, name in self._places()])
            pipe.hdel(keys.CURSOR, "walk", "refill", "from_ms")
            await pipe.execute()

    def _places(self) -> list[tuple[int, str]]:
        """Every shard with every connector."""
        return [(shard, name) for shard in range(self._shards) for name in self._catalog.list()]
