"""Configurations in one SQLite file: the embedded default, shared by every process on a machine.

Writers exclude each other, so a number drawn inside the transaction orders all changes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.connector import ConnectorConfig
from registry.ids import Pair, tenant_id
from registry.stores import Broken, Change, Changes, Page, Revision, StoredConfig, TenantConfigStore
from registry.stores.database import Database
from registry.stores.layout import LAYOUT, VERSION
from registry.stores.rows import KEPT_REVISIONS, Row, checked, dumped, following, not_configured, prepared

_Values = tuple[Any, ...]  # what SQLite returns is only typed by the layout
_ROW = "tenant, connector, revision, document, actor, updated_ms"


class SqliteStore(TenantConfigStore):
    """A `TenantConfigStore` in the file `path`.

    Args:
        path: created when missing, with its directory.
        busy_timeout: seconds to wait for another process's write before `StoreUnavailable`.
    """

    def __init__(self, path: Path | str, *, busy_timeout: float = 5.0) -> None:
        self._database = Database(Path(path), schema=LAYOUT, version=VERSION, busy_timeout=busy_timeout)

    async def get_config(self, pair: Pair) -> StoredConfig:
        pair = checked(pair)
        row = await self._database.read(lambda connection: _read(connection, pair))
        if row is None:
            raise not_configured(pair)
        return row.stored()

    async def set_config(
        self, pair: Pair, config: ConnectorConfig, *, actor: str, expected: int | None = None, beyond: int = 0
    ) -> StoredConfig:
        document = dumped(checked(pair), config)
        row = await self._database.write(lambda connection: _write(connection, pair, document, actor, expected, beyond))
        return row.stored()

    async def set_many(
        self, items: Sequence[tuple[Pair, ConnectorConfig]], *, actor: str, expected: Mapping[Pair, int] | None = None
    ) -> list[StoredConfig]:
        documents = prepared(items)

        def work(connection: sqlite3.Connection) -> list[Row]:
            return [
                _write(connection, pair, document, actor, (expected or {}).get(pair)) for pair, document in documents
            ]

        return [row.stored() for row in await self._database.write(work)]

    async def delete_config(self, pair: Pair, *, actor: str, expected: int | None = None) -> int:
        pair = checked(pair)
        row = await self._database.write(lambda connection: _write(connection, pair, None, actor, expected))
        return row.revision

    async def forget_tenant(self, tenant: str, *, actor: str) -> list[Change]:
        tenant_id(tenant)

        def work(connection: sqlite3.Connection) -> list[Row]:
            query = f"SELECT {_ROW} FROM configs WHERE tenant = ? ORDER BY connector"  # noqa: S608 - a constant
            rows = [_row(values) for values in connection.execute(query, (tenant,)).fetchall()]
            left = [row if row.document is None else _write(connection, row.pair, None, actor, None) for row in rows]
            connection.execute("DELETE FROM revisions WHERE tenant = ?", (tenant,))
            return left

        rows = await self._database.write(work)
        await self._select("PRAGMA wal_checkpoint(TRUNCATE)")  # the log still holds what was deleted
        return [row.change() for row in rows]

    async def list_connectors(self, tenant: str) -> list[str]:
        tenant_id(tenant)
        query = "SELECT connector FROM configs WHERE tenant = ? AND document IS NOT NULL ORDER BY connector"
        return [row[0] for row in await self._select(query, tenant)]

    async def list_tenants(self, *, cursor: str | None = None, limit: int = 100) -> Page[str]:
        found = await self._select(
            "SELECT DISTINCT tenant FROM configs WHERE tenant > ? AND document IS NOT NULL ORDER BY tenant LIMIT ?",
            cursor or "",
            limit + 1,
        )
        tenants = [row[0] for row in found]
        return Page(tuple(tenants[:limit]), tenants[limit - 1] if len(tenants) > limit else None)

    async def list_pairs(self, *, cursor: str | None = None, limit: int = 500) -> Page[StoredConfig | Broken]:
        after = Pair.parse(cursor or ":")
        found = await self._select(
            f"SELECT {_ROW} FROM configs WHERE (tenant, connector) > (?, ?) AND document IS NOT NULL"  # noqa: S608 - a constant
            " ORDER BY tenant, connector LIMIT ?",
            after.tenant,
            after.connector,
            limit + 1,
        )
        rows = [_row(values) for values in found[:limit]]
        return Page(tuple(row.listed() for row in rows), str(rows[-1].pair) if len(found) > limit else None)

    async def changes_since(self, cursor: str | None, *, limit: int = 500) -> Changes:
        def work(connection: sqlite3.Connection) -> tuple[int, str, list[_Values]]:
            epoch, written = connection.execute("SELECT epoch, written FROM changes").fetchone()
            seen = _position(cursor, epoch, written)
            query = f"SELECT {_ROW}, written FROM configs WHERE written > ? ORDER BY written LIMIT ?"  # noqa: S608 - a constant
            return seen, epoch, connection.execute(query, (seen, limit + 1)).fetchall()

        seen, epoch, found = await self._database.read(work)
        items = found[:limit]
        position = items[-1][-1] if items else seen
        changes = tuple(_row(values[:-1]).change() for values in items)
        return Changes(changes, f"{epoch}:{position}", more=len(found) > limit)

    async def history(self, pair: Pair, limit: int = KEPT_REVISIONS) -> list[Revision]:
        pair = checked(pair)
        found = await self._select(
            f"SELECT {_ROW} FROM revisions WHERE tenant = ? AND connector = ? ORDER BY revision DESC LIMIT ?",  # noqa: S608 - a constant
            pair.tenant,
            pair.connector,
            limit,
        )
        return [_row(values).past() for values in found]

    async def ping(self) -> None:
        await self._select("SELECT written FROM changes")

    async def aclose(self) -> None:
        await self._database.aclose()

    async def _select(self, query: str, *values: str | int) -> list[_Values]:
        return await self._database.read(lambda connection: connection.execute(query, values).fetchall())


def _read(connection: sqlite3.Connection, pair: Pair) -> Row | None:
    query = f"SELECT {_ROW} FROM configs WHERE tenant = ? AND connector = ?"  # noqa: S608 - a constant
    values = connection.execute(query, (pair.tenant, pair.connector)).fetchone()
    return _row(values) if values else None


def _write(
    connection: sqlite3.Connection,
    pair: Pair,
    document: str | None,
    actor: str,
    expected: int | None,
    beyond: int = 0,
) -> Row:
    old, now_ms = _read(connection, pair), time.time_ns() // 1_000_000
    row = following(old, pair, document, actor=actor, expected=expected, now_ms=now_ms, beyond=beyond)
    values = (pair.tenant, pair.connector, row.revision, row.document, row.actor, row.updated_ms)
    connection.execute("UPDATE changes SET written = written + 1")
    connection.execute(
        "INSERT OR REPLACE INTO configs VALUES (?, ?, ?, ?, ?, ?, (SELECT written FROM changes))",
        values,
    )
    connection.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?)", values)
    connection.execute(
        "DELETE FROM revisions WHERE tenant = ? AND connector = ? AND revision <= ?",
        (pair.tenant, pair.connector, row.revision - KEPT_REVISIONS),
    )
    return row


def _row(values: _Values) -> Row:
    tenant, connector, revision, document, actor, updated_ms = values
    return Row(Pair(connector, tenant), revision, document, actor, updated_ms)


def _position(cursor: str | None, epoch: str, written: int) -> int:
    """What the cursor has seen; nothing if it is another file's, or a later state's of this file."""
    owner, _, position = (cursor or "").partition(":")
    return int(position) if owner == epoch and position.isdecimal() and int(position) <= written else 0
