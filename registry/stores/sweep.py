"""How far `changes_since` has come where changes carry a server's timestamps.

A commit may become visible after one with a later timestamp, so what is younger than an overlap is read again by the
next sweep. A sweep itself goes on from exact positions: it ends however many changes the overlap holds.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass

Position = tuple[str, str]
"""A change: its timestamp (RFC 3339) and its document's path."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """`floor`: nothing can appear any more at or before it. `at`: where this sweep is; None between sweeps."""

    floor: Position | None = None
    at: Position | None = None

    @property
    def start(self) -> Position | None:
        """The position to read on from; None is the very beginning."""
        return self.at or self.floor

    def advanced(self, seen: Sequence[Position], *, settled: int, more: bool) -> Sweep:
        """After reading `seen`, the first `settled` of which are older than the overlap; `more` goes on with it."""
        unbroken = self.start == self.floor  # everything before `seen` is settled
        floor = seen[settled - 1] if settled and unbroken else self.floor
        return Sweep(floor, seen[-1] if more else None)

    def dumped(self) -> str:
        """The cursor to hand out."""
        return json.dumps([self.floor, self.at])

    @classmethod
    def loaded(cls, cursor: str | None) -> Sweep:
        """The inverse of `dumped`; a cursor that is not ours starts from the beginning."""
        try:
            floor, at = json.loads(cursor or "")
            return cls(_position(floor), _position(at))
        except (ValueError, TypeError):
            return cls()


def _position(value: object) -> Position | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise TypeError("not a position")
    timestamp, path = value
    if dt.datetime.fromisoformat(timestamp).tzinfo is None or path.count("/") % 2 == 0:
        raise ValueError("not a position")
    return timestamp, path
