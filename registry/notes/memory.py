"""Notes in this process's memory."""

from __future__ import annotations

from registry.errors import ConflictError
from registry.notes import ABSENT, Note


class MemoryNotes:
    """A `NoteStore` that ends with its process."""

    def __init__(self) -> None:
        self._notes: dict[str, Note] = {}

    async def read(self, name: str) -> Note:
        """See `NoteStore`."""
        return self._notes.get(name, ABSENT)

    async def write(self, name: str, text: str, *, expected: int) -> Note:
        """See `NoteStore`."""
        found = self._notes.get(name, ABSENT).revision
        if found != expected:
            raise ConflictError(f"{name}: revision {found} is stored, not {expected}: read it again")
        self._notes[name] = Note(text, expected + 1)
        return self._notes[name]

    async def aclose(self) -> None:
        """See `NoteStore`."""
