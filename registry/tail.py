"""Following Redis streams without ever missing something unknowingly."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from registry import keys
from registry.clock import steady
from registry.connection import Redis

BEGINNING = "0-0"
"""The position before every entry; also where a stream ends that never had one."""

_Rows: TypeAlias = "list[tuple[bytes, Mapping[bytes, bytes]]]"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream; `position` is its id."""

    position: str
    fields: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class News:
    """What one read brought. After a `gap` entries may have been missed, and reading goes on at the streams' ends."""

    entries: tuple[Entry, ...] = ()
    gap: bool = False


class Tail:
    """Reads some streams from a position on.

    An entry that was read is looked for again after every read: while it is there, nothing that followed it can have
    been trimmed, and Redis has not lost its data. So a gap is noticed within one read, at the cost of a look-up a
    stream. Of a stream that was empty, the first entries are asked whether they are the first (see `whole`).

    Args:
        positions: stream → where to go on; a stream that is new to the reader begins at `end`.
        wait: seconds a read waits for news, at most; less than the connection's timeout.
    """

    def __init__(self, redis: Redis, positions: Mapping[str, str], *, wait: float) -> None:
        self._redis, self._wait_ms = redis, max(1, int(wait * 1000))
        self._at, self._looked = dict(positions), steady()

    async def read(self) -> News:
        """Wait for news; none when the time is over. Raises what redis-py raises, and can be called again then."""
        answer = await self._redis.xread(self._at, block=self._wait_ms)  # type: ignore[arg-type]  # dict is invariant
        rows = {stream.decode(): entries for stream, entries in cast("list[tuple[bytes, _Rows]]", answer)}
        begun = [stream for stream in rows if self._at[stream] == BEGINNING]
        lost = await self._lost() or not await whole(self._redis, begun, empty=steady() - self._looked)
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError  # redis-py writes within asyncio.wait_for, which may swallow it before 3.12
        if lost:
            self._at, self._looked = await ends(self._redis, list(self._at)), steady()
            return News(gap=True)
        entries: list[Entry] = []
        for stream, found in rows.items():
            news = [Entry(position.decode(), fields) for position, fields in found]
            entries += news
            self._at[stream] = news[-1].position
        self._looked = steady()
        return News(tuple(entries))

    def position(self, stream: str) -> str:
        """Where the next read of `stream` goes on."""
        return self._at[stream]

    async def _lost(self) -> bool:
        """Is an entry gone that we stood at?"""
        async with self._redis.pipeline(transaction=False) as pipe:
            for stream, position in self._at.items():
                if position != BEGINNING:
                    pipe.xrange(stream, position, position)
            return not all(await pipe.execute())


async def whole(redis: Redis, streams: Sequence[str], *, empty: float = math.inf) -> bool:
    """Has each stream every entry that it ever had?

    Redis tells from version 7 on. Before, it is known of what is short still, and was `empty` seconds ago.
    """
    async with redis.pipeline(transaction=False) as pipe:
        for stream in streams:
            pipe.xlen(stream)
        lengths = await pipe.execute()
        for stream, length in zip(streams, lengths, strict=True):
            if length:
                pipe.xinfo_stream(stream)
        told = await pipe.execute()
    return all(
        one["length"] == one["entries-added"]
        if "entries-added" in one
        else one["length"] < keys.CHANGES_CAP and empty * 1000 < keys.EVENTS_KEPT_MS
        for one in told
    )


async def ends(redis: Redis, streams: Sequence[str]) -> dict[str, str]:
    """Where each stream ends now."""
    async with redis.pipeline(transaction=False) as pipe:
        for stream in streams:
            pipe.xrevrange(stream, count=1)
        rows = cast("list[_Rows]", await pipe.execute())
    return {stream: last[0][0].decode() if last else BEGINNING for stream, last in zip(streams, rows, strict=True)}
