"""Maintenance windows: when somebody has announced that a connector or a tenant may fail.

Checks go on and their verdicts are shown; but nobody is alerted or told, and the time counts in no uptime. Windows are
kept as a note (`registry.notes`), and copied to Redis, where checks read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from uuid import uuid4

import msgspec

from registry import keys
from registry.audit import Action
from registry.audit.trail import Trail
from registry.clock import SharedClock, steady
from registry.connection import AWAY, Redis
from registry.errors import InvalidConfig, NotConfigured
from registry.health import rfc3339
from registry.ids import Pair, connector_id, tenant_id
from registry.notes import NoteStore

NOTE = "maintenance"

LONGEST_MS = 90 * 86_400_000
"""A window beyond 90 days is a mistake: nobody would ever be alerted again."""

MOST = 1_000
"""Windows at a time."""

KEEP = 2.0
"""Seconds a process believes what it last read of the windows."""


class Window(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One announced time, from `starts_ms` up to `ends_ms` (Unix ms). None means every connector, or every tenant."""

    id: str
    starts_ms: int
    ends_ms: int
    connector: str | None = None
    tenant: str | None = None
    note: str = ""
    actor: str = ""

    def covers(self, pair: Pair, now_ms: int) -> bool:
        """Is `pair` in maintenance at `now_ms`?"""
        return self.starts_ms <= now_ms < self.ends_ms and self.concerns(pair)

    def concerns(self, pair: Pair) -> bool:
        """Is this window about `pair`?"""
        return self.connector in (None, pair.connector) and self.tenant in (None, pair.tenant)

    def as_dict(self) -> dict[str, object]:
        """The public form, with RFC 3339 times."""
        times = {"starts": rfc3339(self.starts_ms), "ends": rfc3339(self.ends_ms)}
        return {"id": self.id, "connector": self.connector, "tenant": self.tenant, **times, "note": self.note}


class _Windows(msgspec.Struct, frozen=True):
    revision: int
    windows: tuple[Window, ...]


def until(pair: Pair, windows: Iterable[Window], now_ms: int) -> int:
    """Until when `pair` is in maintenance (Unix ms); 0 if it is not."""
    return max((window.ends_ms for window in windows if window.covers(pair, now_ms)), default=0)


class MaintenanceBoard:
    """The windows as this process last read them from Redis, at most `KEEP` seconds ago."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._windows: tuple[Window, ...] = ()
        self._read = float("-inf")

    async def current(self) -> tuple[Window, ...]:
        """All windows, past and coming ones too; what was last known while Redis is away."""
        if steady() - self._read > KEEP:
            self._read = steady()
            with suppress(*AWAY):
                self._windows = _decoded(await self._redis.get(keys.MAINTENANCE)).windows
        return self._windows


class Maintenance:
    """Adds, lists and ends windows.

    Args:
        notes: where they are kept.
        trail: told of every change.
    """

    def __init__(self, redis: Redis, notes: NoteStore, clock: SharedClock, trail: Trail) -> None:
        self._redis, self._notes, self._clock, self._trail = redis, notes, clock, trail

    async def windows(self) -> tuple[Window, ...]:
        """The windows that are not over, by their beginning. Raises `StoreUnavailable`."""
        kept = await self._kept()
        now = await self._now()
        return tuple(sorted((w for w in kept.windows if w.ends_ms > now), key=lambda window: window.starts_ms))

    async def add(
        self,
        *,
        actor: str,
        starts_ms: int,
        ends_ms: int,
        connector: str | None = None,
        tenant: str | None = None,
        note: str = "",
    ) -> Window:
        """Announce a window.

        Raises:
            InvalidConfig: it names neither connector nor tenant, ends before it begins or is over, or is too long.
            InvalidId: connector or tenant is not spelled like one.
            ConflictError: somebody else changed the windows meanwhile: try again.
            StoreUnavailable: the store is away; nothing was announced.
        """
        now = await self._now()
        _check(starts_ms, ends_ms, now)
        if connector is None and tenant is None:
            raise InvalidConfig("a maintenance window needs a connector, a tenant or both")
        window = Window(
            id=uuid4().hex[:12],
            starts_ms=starts_ms,
            ends_ms=ends_ms,
            connector=connector_id(connector) if connector is not None else None,
            tenant=tenant_id(tenant) if tenant is not None else None,
            note=note[:200],
            actor=actor,
        )
        kept = await self._kept()
        left = [other for other in kept.windows if other.ends_ms > now]
        if len(left) >= MOST:
            raise InvalidConfig(f"there are {MOST} maintenance windows already: end some first")
        await self._write(kept, (*left, window))
        await self._told(Action.MAINTENANCE_ANNOUNCED, window, actor)
        return window

    async def end(self, window_id: str, *, actor: str) -> Window:
        """End a window now, or take back one that has not begun.

        Raises:
            NotConfigured: there is no such window, or it is over.
            ConflictError, StoreUnavailable: as for `add`.
        """
        now, kept = await self._now(), await self._kept()
        found = next((w for w in kept.windows if w.id == window_id and w.ends_ms > now), None)
        if found is None:
            raise NotConfigured(f"maintenance window {window_id}: there is none, or it is over")
        await self._write(kept, tuple(w for w in kept.windows if w.id != window_id and w.ends_ms > now))
        await self._told(Action.MAINTENANCE_ENDED, found, actor)
        return found

    async def copy(self) -> None:
        """Bring what is kept into Redis, which may have lost it. Raises `StoreUnavailable`, and as redis-py does."""
        kept = await self._kept()
        if _decoded(await self._redis.get(keys.MAINTENANCE)) != kept:
            await self._redis.set(keys.MAINTENANCE, msgspec.json.encode(kept))

    async def aclose(self) -> None:
        """Give the store's connections back."""
        await self._notes.aclose()

    async def _kept(self) -> _Windows:
        note = await self._notes.read(NOTE)
        windows = msgspec.json.decode(note.text, type=tuple[Window, ...]) if note.text else ()
        return _Windows(note.revision, windows)

    async def _write(self, before: _Windows, windows: tuple[Window, ...]) -> None:
        await self._notes.write(NOTE, msgspec.json.encode(windows).decode(), expected=before.revision)
        with suppress(*AWAY):  # the reconciler brings it in when Redis is back
            await self.copy()

    async def _now(self) -> int:
        if self._clock.due:
            asked = steady()
            with suppress(*AWAY):
                self._clock.calibrate(await self._redis.time(), asked)
        return self._clock.now_ms()

    async def _told(self, action: Action, window: Window, actor: str) -> None:
        await self._trail.record(
            action,
            actor=actor,
            tenant=window.tenant,
            connector=window.connector,
            window=window.id,
            starts_ms=window.starts_ms,
            ends_ms=window.ends_ms,
        )


def _check(starts_ms: int, ends_ms: int, now_ms: int) -> None:
    if ends_ms <= starts_ms:
        raise InvalidConfig("a maintenance window must end after it begins")
    if ends_ms <= now_ms:
        raise InvalidConfig(f"that maintenance window is over: it ends {rfc3339(ends_ms)}")
    if ends_ms - max(starts_ms, now_ms) > LONGEST_MS:
        raise InvalidConfig(
            "a maintenance window of more than 90 days would hide every failure: announce a shorter one"
        )


def _decoded(wire: object) -> _Windows:
    """What another version wrote and this one cannot read is as good as none: an alert too many, not one too few."""
    if not isinstance(wire, bytes):
        return _Windows(0, ())
    try:
        return msgspec.json.decode(wire, type=_Windows)
    except msgspec.DecodeError:
        return _Windows(0, ())
