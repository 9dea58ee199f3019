"""Transitions and incidents as they happen, told to any number of listeners by one reader of Redis.

Every listener hears what follows the moment it began, or resumes after a position. Nobody misses something
unknowingly: where it could have, it is told `Gap`, and reads the statuses anew. Something may be told twice after a
resumption; its position tells.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import msgspec

from registry import keys
from registry.bookmarks import Bookmarks
from registry.connection import AWAY
from registry.errors import CacheUnavailable
from registry.health import rfc3339
from registry.ids import SYSTEM
from registry.tail import BEGINNING, Entry, Tail, ends, whole
from registry.watch import RETRY, Gap, Transition, transition_of

if TYPE_CHECKING:
    from registry.bootstrap import Parts

BACKLOG = 1_000
"""News that wait for one slow listener; beyond that it is told a gap instead."""

RESUMED = 1_000
"""Transitions of one shard that a resumption brings; who missed more is told a gap."""


@dataclass(frozen=True, slots=True)
class IncidentChange:
    """An incident was ``opened`` or ``closed``; `incident` is its public form."""

    position: str
    change: str
    incident: dict[str, object]


News = Transition | IncidentChange | Gap


class Listener:
    """One subscription: iterate over it. `tenant` None hears of everything, else of this tenant's transitions alone."""

    def __init__(self, tenant: str | None) -> None:
        self.tenant = tenant
        self._waiting: deque[News] = deque()
        self._woken = asyncio.Event()

    def hear(self, news: News) -> None:
        """Take `news`, if they concern this listener."""
        if self.tenant is not None:
            if isinstance(news, IncidentChange):
                return
            if isinstance(news, Transition) and news.tenant_id != self.tenant:
                return
        if len(self._waiting) >= BACKLOG:
            self._waiting.clear()
            news = Gap(news.position)
        self._waiting.append(news)
        self._woken.set()

    async def next(self, wait: float) -> News | None:
        """The next news; None when there are none for `wait` seconds."""
        if not self._waiting:
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()
        return self._waiting.popleft() if self._waiting else None


class Feed:
    """Reads all shards' transitions and the incidents' log, and tells the listeners. Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._streams = {keys.events(shard): shard for shard in range(parts.settings.shards)}
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()
        self.bookmarks = Bookmarks(parts.redis)
        """Positions as tenants are told them."""

    async def listen(
        self, tenant: str | None, *, after: str | None = None, quiet: float = 15.0
    ) -> AsyncGenerator[News | None, None]:
        """News from now on, or after the position `after`; None whenever there were none for `quiet` seconds.

        It begins with a `Gap` unless it resumes where nothing was missed.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._read())
        with suppress(TimeoutError):
            async with asyncio.timeout(quiet):
                await self._begun.wait()
        listener = Listener(tenant)
        self._listeners.add(listener)
        try:
            missed = await self._missed(tenant, after) if after else None
            if missed is None:
                yield Gap("")
            known = {news.position for news in missed or ()}
            for news in missed or ():
                yield news
            while True:
                following = await listener.next(quiet)
                if following is None or following.position not in known:
                    yield following
        finally:
            self._listeners.discard(listener)

    async def now(self, tenant: str) -> str:
        """The position at which a tenant's transitions end now. Raises `CacheUnavailable`."""
        shard = self._shard(tenant)
        stream = keys.events(shard)
        try:
            return f"{(await ends(self._parts.redis, [stream]))[stream]}.{shard}"
        except AWAY as error:
            raise CacheUnavailable(f"Redis did not answer ({type(error).__name__})") from error

    async def aclose(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _read(self) -> None:
        redis, tail = self._parts.redis, None
        while True:
            try:
                if tail is None:
                    at = await ends(redis, [*self._streams, keys.INCIDENT_LOG])
                    tail = Tail(redis, at, wait=self._parts.settings.stream_wait)
                    self._begun.set()
                    self._tell([Gap("")])  # whoever listens already has not been told anything yet
                found = await tail.read()
            except AWAY:
                await asyncio.sleep(RETRY)
                continue
            if found.gap:
                self._tell([Gap("")])
            self._tell(self._news(found.entries))

    def _tell(self, news: Sequence[News]) -> None:
        for one in news:
            for listener in self._listeners:
                listener.hear(one)

    def _news(self, entries: Sequence[Entry]) -> list[News]:
        told = [one for entry in entries if (one := self._one(entry)) is not None]
        return sorted(told, key=lambda one: _order(one.position))

    def _one(self, entry: Entry) -> News | None:
        try:
            return self._read_one(entry)
        except (ValueError, LookupError, TypeError, AttributeError):
            return Gap("")  # another version's: that something happened is all that can be told

    def _read_one(self, entry: Entry) -> News | None:
        if b"transition" in entry.fields:
            event = msgspec.json.decode(entry.fields[b"transition"])
            if event["tenant"].startswith(SYSTEM) and event["tenant"] != SYSTEM:
                return None  # the address of some tenant's own server is not everybody's to know
            shard = keys.shard_of(event["tenant"], self._parts.settings.shards)
            return transition_of(f"{entry.position}.{shard}", event)
        if b"incident" in entry.fields:
            incident = msgspec.json.decode(entry.fields[b"incident"])
            return IncidentChange(f"{entry.position}.i", entry.fields[b"event"].decode(), incident)
        return None

    async def _missed(self, tenant: str | None, after: str) -> list[News] | None:
        """What followed `after`; None when that cannot be told whole."""
        position, _, origin = after.partition(".")
        if not _is_position(position) or not (origin.isdecimal() or origin == "i"):
            return None
        shards = range(self._parts.settings.shards) if tenant is None else [self._shard(tenant)]
        streams = [keys.events(shard) for shard in shards] + ([keys.INCIDENT_LOG] if tenant is None else [])
        own = keys.INCIDENT_LOG if origin == "i" else keys.events(int(origin))
        try:
            async with self._parts.redis.pipeline(transaction=False) as pipe:
                pipe.xrange(own, position, position)
                for stream in streams:
                    # In other streams something of the same millisecond may follow: rather twice than never.
                    pipe.xrange(stream, f"({position}" if stream == own else position.partition("-")[0], "+", RESUMED)
                there, *rows = await pipe.execute()
            if position == BEGINNING:
                there = await whole(self._parts.redis, streams)
        except AWAY:
            return None
        if not there or any(len(row) >= RESUMED for row in rows):
            return None
        found = self._news([Entry(at.decode(), fields) for row in cast("list[_Rows]", rows) for at, fields in row])
        return None if any(isinstance(one, Gap) for one in found) else [o for o in found if self._concerns(o, tenant)]

    def _shard(self, tenant: str) -> int:
        return keys.shard_of(tenant, self._parts.settings.shards)

    @staticmethod
    def _concerns(news: News, tenant: str | None) -> bool:
        return tenant is None or (isinstance(news, Transition) and news.tenant_id == tenant)


_Rows = list[tuple[bytes, dict[bytes, bytes]]]


def as_dict(news: Transition | IncidentChange) -> dict[str, object]:
    """The public JSON form, with RFC 3339 times."""
    if isinstance(news, IncidentChange):
        return {"change": news.change, "incident": news.incident}
    return {
        "connector": news.connector,
        "tenant_id": news.tenant_id,
        "from": news.before and {"status": news.before[0].value, "reason": news.before[1].value},
        "status": news.status.value,
        "reason": news.reason.value,
        "fault": news.fault.value,
        "healthy": news.healthy,
        "at": rfc3339(news.at_ms),
        "version": news.version,
    }


def _is_position(text: str) -> bool:
    milliseconds, _, sequence = text.partition("-")
    return milliseconds.isdecimal() and sequence.isdecimal() and len(text) <= 40


def _order(position: str) -> tuple[int, int]:
    milliseconds, _, sequence = position.partition(".")[0].partition("-")
    return int(milliseconds or 0), int(sequence or 0)
