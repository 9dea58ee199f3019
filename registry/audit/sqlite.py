"""The audit log in the embedded store's file, in a table that SQLite itself lets nobody change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from registry.audit import START, AuditRecord, Entry, Head, chained
from registry.stores.database import Database
from registry.stores.layout import LAYOUT, VERSION

if TYPE_CHECKING:
    import sqlite3


class SqliteAudit:
    """An `AuditSink` in the file `path`. Writers of all processes exclude each other, so that there is one chain."""

    def __init__(self, path: Path | str, *, busy_timeout: float = 5.0) -> None:
        self._database = Database(Path(path), schema=LAYOUT, version=VERSION, busy_timeout=busy_timeout)

    async def append(self, entries: Sequence[Entry]) -> Head:
        """See `AuditSink`."""

        def work(connection: sqlite3.Connection) -> Head:
            last = connection.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
            records = chained(entries, Head(*last) if last else START)
            rows = [(record.number, record.text, record.hash) for record in records]
            connection.executemany("INSERT INTO audit (number, text, hash) VALUES (?, ?, ?)", rows)
            return Head(records[-1].number, records[-1].hash)

        return await self._database.write(work)

    async def records(self, after: int = 0, limit: int = 500) -> list[AuditRecord]:
        """See `AuditSink`."""
        query = "SELECT number, text, hash FROM audit WHERE number > ? ORDER BY number LIMIT ?"
        return await self._select(query, after, limit)

    async def latest(self, limit: int = 50, *, tenant: str | None = None) -> list[AuditRecord]:
        """See `AuditSink`."""
        if tenant is None:
            found = await self._select("SELECT number, text, hash FROM audit ORDER BY number DESC LIMIT ?", limit)
        else:
            query = "SELECT number, text, hash FROM audit WHERE tenant = ? ORDER BY number DESC LIMIT ?"
            found = await self._select(query, tenant, limit)
        return found[::-1]

    async def aclose(self) -> None:
        """See `AuditSink`."""
        await self._database.aclose()

    async def _select(self, query: str, *values: str | int) -> list[AuditRecord]:
        rows = await self._database.read(lambda connection: connection.execute(query, values).fetchall())
        return [AuditRecord(*row) for row in rows]
