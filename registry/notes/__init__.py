"""Small documents of the operators' own that must outlive Redis: the maintenance windows.

Each has a name, a text and a revision; a write says which revision it was made from, so that nobody's change is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["ABSENT", "Note", "NoteStore"]


@dataclass(frozen=True, slots=True)
class Note:
    """A document: `revision` counts its writes from 1."""

    text: str
    revision: int


ABSENT = Note("", 0)
"""What a document is that was never written."""


@runtime_checkable
class NoteStore(Protocol):
    """Where notes are kept, beside the configurations. Every method raises `StoreUnavailable` when that is away."""

    async def read(self, name: str) -> Note:
        """The document, or `ABSENT`."""
        ...

    async def write(self, name: str, text: str, *, expected: int) -> Note:
        """Write over revision `expected` (0: none yet). Raises `ConflictError` over any other."""
        ...

    async def aclose(self) -> None:
        """Give back connections and threads."""
        ...
