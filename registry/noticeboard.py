"""Notes that every process has to know: kept where the configurations are, and copied to Redis, where they are read.

The store is the truth and is written first. `Noticeboard.copy` brings a copy that Redis lost back.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import structlog

from registry.clock import SharedClock, steady
from registry.connection import AWAY, Redis
from registry.notes import NoteStore

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=msgspec.Struct)

KEEP = 2.0
"""Seconds a process believes what it last read of the copy."""


class Posted(msgspec.Struct, Generic[T], frozen=True):
    """The notices, and the revision of the note they were read from (0: there is none)."""

    revision: int
    notices: tuple[T, ...]


class Copies(Generic[T]):
    """The notices as this process last read them from Redis, at most `KEEP` seconds ago.

    Args:
        key: where the copy is.
        kind: what a notice is.
    """

    def __init__(self, redis: Redis, key: str, kind: type[T]) -> None:
        self._redis, self._key, self._kind = redis, key, kind
        self._posted: Posted[T] = Posted(0, ())
        self._read, self._first = float("-inf"), asyncio.Lock()
        self.ever = False
        """Was a copy ever read? While it was not, having no notices means nothing."""

    async def current(self, within: float = KEEP) -> tuple[T, ...]:
        """All notices as they were at most `within` seconds ago; what was last known while Redis is away."""
        if self.ever:
            await self._look(within)
        else:
            async with self._first:  # until there is something to go on with, all wait for the one who looks
                await self._look(within)
        return self._posted.notices

    async def _look(self, within: float) -> None:
        if steady() - self._read > within:
            self._read = steady()
            try:
                await self.read()
            except AWAY:
                self._read = steady()  # it may have taken long to find out

    async def read(self) -> tuple[T, ...]:
        """All notices as they are now. Raises as redis-py does."""
        wire = await self._redis.get(self._key)
        if wire is not None:
            self._posted, self.ever = decoded(wire, self._kind), True
        return self._posted.notices

    def forget(self) -> None:
        """Read anew at the next use."""
        self._read = float("-inf")


class Noticeboard(Generic[T]):
    """Reads and writes the notices of one name.

    Args:
        name: the note's.
        key: where its copy is.
        kind: what a notice is.
    """

    def __init__(
        self, redis: Redis, notes: NoteStore, clock: SharedClock, *, name: str, key: str, kind: type[T]
    ) -> None:
        self._redis, self._notes, self._clock, self._name, self._key, self._kind = redis, notes, clock, name, key, kind

    async def posted(self) -> Posted[T]:
        """What is kept; where the store has lost it, what the copy has. Raises `StoreUnavailable`."""
        note = await self._notes.read(self._name)
        if not note.revision:
            with suppress(*AWAY):
                return Posted(0, decoded(await self._redis.get(self._key), self._kind).notices)
        notices = msgspec.json.decode(note.text, type=tuple[self._kind, ...]) if note.text else ()  # type: ignore[name-defined]  # a type made at run time
        return Posted(note.revision, notices)

    async def post(self, before: Posted[T], notices: tuple[T, ...]) -> None:
        """Put `notices` in the place of `before`. Raises `ConflictError`, `StoreUnavailable`."""
        await self._notes.write(self._name, msgspec.json.encode(notices).decode(), expected=before.revision)
        with suppress(*AWAY):  # the reconciler brings it in when Redis is back
            await self.copy()

    async def copy(self) -> None:
        """Bring what is kept into Redis, which may have lost it. Raises `StoreUnavailable`, and as redis-py does.

        Where somebody else brings theirs meanwhile, what was read here may be older: then it is read again. A store
        that never knew a notice has lost them, for the end of the last one is written there too: then the copy stays.
        """

        async def bring(pipe: Pipeline) -> None:
            wire, kept = await pipe.get(self._key), await self.posted()
            copied = decoded(wire, self._kind)
            pipe.multi()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            if copied.revision and not kept.revision:
                log.warning("notices_lost", name=self._name, revision=copied.revision)
            elif wire is None or copied != kept:
                pipe.set(self._key, msgspec.json.encode(kept))

        await self._redis.transaction(bring, self._key)

    async def now_ms(self) -> int:
        """Redis' time (Unix ms), as well as it is known."""
        if self._clock.due:
            asked = steady()
            with suppress(*AWAY):
                self._clock.calibrate(await self._redis.time(), asked)
        return self._clock.now_ms()


def decoded(wire: object, kind: type[T]) -> Posted[T]:
    """What another version wrote and this one cannot read is as good as none."""
    if not isinstance(wire, bytes):
        return Posted(0, ())
    try:
        return msgspec.json.decode(wire, type=Posted[kind])  # type: ignore[valid-type]  # a type made at run time
    except msgspec.DecodeError:
        return Posted(0, ())
