"""Maintenance windows: when somebody has announced that a connector or a tenant may fail.

Checks go on and their verdicts are shown; but nobody is alerted or told, and the time counts in no uptime. Windows are
kept as a note (`registry.notes`), and copied to Redis, where checks read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid4

import msgspec

from registry import keys
from registry.audit import Action
from registry.audit.trail import Trail
from registry.clean import clean
from registry.clock import SharedClock
from registry.connection import Redis
from registry.errors import InvalidConfig, NotConfigured
from registry.health import rfc3339
from registry.ids import Pair, connector_id, tenant_id
from registry.notes import NoteStore
from registry.noticeboard import Copies, Noticeboard

NOTE = "maintenance"

LONGEST_MS = 90 * 86_400_000
"""A window beyond 90 days is a mistake: nobody would ever be alerted again."""

FARTHEST_MS = 100 * 365 * 86_400_000
"""A window that ends a century from now is a misspelt year."""

MOST = 1_000
"""Windows at a time."""

MOST_OF_TENANT = 50
"""Of those, windows of one tenant: nobody uses up what is everybody's."""


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


def until(pair: Pair, windows: Iterable[Window], now_ms: int) -> int:
    """Until when `pair` is in maintenance (Unix ms); 0 if it is not."""
    return max((window.ends_ms for window in windows if window.covers(pair, now_ms)), default=0)


class MaintenanceBoard(Copies[Window]):
    """All windows as this process last read them, past and coming ones too."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, keys.MAINTENANCE, Window)


class Maintenance:
    """Adds, lists and ends windows.

    Args:
        notes: where they are kept.
        trail: told of every change.
    """

    def __init__(self, redis: Redis, notes: NoteStore, clock: SharedClock, trail: Trail) -> None:
        self._notes, self._trail = notes, trail
        self._board = Noticeboard(redis, notes, clock, name=NOTE, key=keys.MAINTENANCE, kind=Window)

    async def windows(self) -> tuple[Window, ...]:
        """The windows that are not over, by their beginning. Raises `StoreUnavailable`."""
        kept, now = await self._board.posted(), await self._board.now_ms()
        return tuple(sorted((w for w in kept.notices if w.ends_ms > now), key=lambda window: window.starts_ms))

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
            InvalidConfig: it names neither connector nor tenant, ends before it begins or is over, is too long,
                begins before 1970 or ends too far from now.
            InvalidId: connector or tenant is not spelled like one.
            ConflictError: somebody else changed the windows meanwhile: try again.
            StoreUnavailable: the store is away; nothing was announced.
        """
        now = await self._board.now_ms()
        _check(starts_ms, ends_ms, now)
        if connector is None and tenant is None:
            raise InvalidConfig("a maintenance window needs a connector, a tenant or both")
        window = Window(
            id=uuid4().hex[:12],
            starts_ms=starts_ms,
            ends_ms=ends_ms,
            connector=connector_id(connector) if connector is not None else None,
            tenant=tenant_id(tenant) if tenant is not None else None,
            note=clean(note),
            actor=actor,
        )
        kept = await self._board.posted()
        left = [other for other in kept.notices if other.ends_ms > now]
        if len(left) >= MOST:
            raise InvalidConfig(f"there are {MOST} maintenance windows already: end some first")
        if tenant is not None and sum(other.tenant == tenant for other in left) >= MOST_OF_TENANT:
            raise InvalidConfig(f"this tenant has {MOST_OF_TENANT} maintenance windows already: end some first")
        await self._board.post(kept, (*left, window))
        await self._told(Action.MAINTENANCE_ANNOUNCED, window, actor)
        return window

    async def end(self, window_id: str, *, actor: str) -> Window:
        """End a window now, or take back one that has not begun.

        Raises:
            NotConfigured: there is no such window, or it is over.
            ConflictError, StoreUnavailable: as for `add`.
        """
        now, kept = await self._board.now_ms(), await self._board.posted()
        found = next((w for w in kept.notices if w.id == window_id and w.ends_ms > now), None)
        if found is None:
            raise NotConfigured(f"maintenance window {window_id}: there is none, or it is over")
        await self._board.post(kept, tuple(w for w in kept.notices if w.id != window_id and w.ends_ms > now))
        await self._told(Action.MAINTENANCE_ENDED, found, actor)
        return found

    async def copy(self) -> None:
        """Bring what is kept into Redis, which may have lost it. Raises `StoreUnavailable`, and as redis-py does."""
        await self._board.copy()

    async def aclose(self) -> None:
        """Give the store's connections back."""
        await self._notes.aclose()

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
    if starts_ms < 0 or ends_ms - now_ms > FARTHEST_MS:
        raise InvalidConfig("a maintenance window begins after 1970 and ends within 100 years: is its year misspelt?")
