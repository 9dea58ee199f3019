"""Notes in the embedded store's file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from registry.errors import ConflictError
from registry.notes import ABSENT, Note
from registry.stores.database import Database
from registry.stores.layout import LAYOUT, VERSION

if TYPE_CHECKING:
    import sqlite3


class SqliteNotes:
    """A `NoteStore` in the file `path`."""

    def __init__(self, path: Path | str, *, busy_timeout: float = 5.0) -> None:
        self._database = Database(Path(path), schema=LAYOUT, version=VERSION, busy_timeout=busy_timeout)

    async def read(self, name: str) -> Note:
        """See `NoteStore`."""
        return await self._database.read(lambda connection: _read(connection, name))

    async def write(self, name: str, text: str, *, expected: int) -> Note:
        """See `NoteStore`."""

        def work(connection: sqlite3.Connection) -> Note:
            found = _read(connection, name).revision
            if found != expected:
                raise ConflictError(f"{name}: revision {found} is stored, not {expected}: read it again")
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (name, text, expected + 1))
            return Note(text, expected + 1)

        return await self._database.write(work)

    async def aclose(self) -> None:
        """See `NoteStore`."""
        await self._database.aclose()


def _read(connection: sqlite3.Connection, name: str) -> Note:
    found = connection.execute("SELECT text, revision FROM notes WHERE name = ?", (name,)).fetchone()
    return Note(*found) if found else ABSENT
