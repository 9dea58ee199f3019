"""One comparison of the schedule with all the store has: how far it has come, and whom it has met.

It takes as many rounds as it needs, of whichever process. Meanwhile Redis may lose its data, or be set back to an older
copy. So a comparison leaves a mark in every shard as it begins, and counts whom it meets: only where the mark is still
there, and all whom it met are too, in the notes and in the schedule, is the schedule declared complete.
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
        met: how many pairs it has met so far.
    """

    mark: str
    cursor: str | None
    refill: bool
    from_ms: int
    met: int = 0

    @classmethod
    def of(cls, progress: Mapping[str, str]) -> Walk | None:
        """The one that earlier rounds have left in `keys.CURSOR`, if any."""
        if "walk" not in progress:
            return None
        mark, _, cursor = progress["walk"].partition(" ")
        since, met = (int(progress.get(name, 0)) for name in ("from_ms", "met"))
        return cls(mark, cursor or None, progress.get("refill") == "1", since, met)

    @property
    def wire(self) -> dict[EncodableT, EncodableT]:
        """Its fields in `keys.CURSOR`. Mark and place are one field, so that nobody goes on at another one's place."""
        place = f"{self.mark} {self.cursor or ''}"
        return {"walk": place, "refill": int(self.refill), "from_ms": self.from_ms, "met": self.met}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a comparison has found at its end: scheduled `strangers` it has not met, and whom it `missed` though it had.

    `kept` says how many of those it met are still noted.
    """

    strangers: list[Pair]
    missed: list[Pair]
    kept: int


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
        """Note whom it has met on a page, and that it goes on behind that; None when it would do so in vain.

        Pairs of connectors that are not registered are met by nobody: what is configured stays, and nothing checks it.
        """
        names = set(self._catalog.list())
        met = [change.pair for change in page.items if not change.deleted and change.pair.connector in names]
        async with self._redis.pipeline(transaction=False) as pipe:
            for pair in met:
                seen = keys.seen(keys.shard_of(pair.tenant, self._shards), pair.connector, walk.mark)
                pipe.sadd(seen, pair.tenant)
            for shard, name in self._places():
                pipe.expire(keys.seen(shard, name, walk.mark), SEEN_TTL)
            pipe.mget([keys.walk(shard) for shard in range(self._shards)])
            *added, marks = await pipe.execute()
        if any(mark != walk.mark.encode() for mark in marks):
            return None
        walk = replace(walk, cursor=page.cursor, met=walk.met + sum(added[: len(met)]))
        await self._redis.hset(keys.CURSOR, mapping=walk.wire)
        return walk

    async def outcome(self, walk: Walk) -> Outcome:
        """Whom it has met, against whom the schedule has."""
        strangers, missed, kept = list[Pair](), list[Pair](), 0
        for shard, name in self._places():  # each by itself: readers get their turn in between
            due, seen = keys.due(shard, name), keys.seen(shard, name, walk.mark)
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zdiff([due, seen])
                pipe.zdiff([seen, due])
                pipe.scard(seen)
                here, gone, many = await pipe.execute()
            strangers += [pair for tenant in here if not (pair := Pair(name, tenant.decode())).is_service]
            missed += [Pair(name, tenant.decode()) for tenant in gone]
            kept += many
        return Outcome(strangers, missed, kept)

    async def complete(self, walk: Walk, now: int) -> bool:
        """Declare every shard complete that has kept the comparison's mark; is that all of them?"""
        async with self._redis.pipeline(transaction=False) as pipe:
            for shard in range(self._shards):
                script_keys = [keys.walk(shard), keys.epoch(shard)]
                await self._complete(keys=script_keys, args=[walk.mark, now], client=pipe)
            return all(await execute(pipe))

    async def end(self, walk: Walk) -> None:
        """Forget it, in vain or not; another one that has begun since goes on."""
        await self._redis.unlink(*[keys.seen(shard, name, walk.mark) for shard, name in self._places()])
        going_on = cast("bytes | None", await self._redis.hget(keys.CURSOR, "walk")) or b""
        if going_on.startswith(walk.mark.encode()):
            await self._redis.hdel(keys.CURSOR, "walk", "refill", "from_ms", "met")

    def _places(self) -> list[tuple[int, str]]:
        """Every shard with every connector."""
        return [(shard, name) for shard in range(self._shards) for name in self._catalog.list()]
