"""Configurations in this process's memory: for tests, for trying things out, and where none need to survive."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice

from registry.connector import ConnectorConfig
from registry.ids import Pair, tenant_id
from registry.stores import Broken, Change, Changes, Page, Revision, StoredConfig, TenantConfigStore
from registry.stores.rows import KEPT_REVISIONS, Row, checked, dumped, following, not_configured, prepared


class MemoryStore(TenantConfigStore):
    """A `TenantConfigStore` without a server and without a file; its methods never wait."""

    def __init__(self) -> None:
        self._epoch = uuid.uuid4().hex[:8]
        self._rows: dict[Pair, Row] = {}  # in the order of their latest write, which is what `changes_since` follows
        self._written: dict[Pair, int] = {}
        self._history: dict[Pair, deque[Row]] = {}
        self._count = 0
        self._lock = threading.Lock()

    async def get_config(self, pair: Pair) -> StoredConfig:
        row = self._rows.get(checked(pair))
        if row is None:
            raise not_configured(pair)
        return row.stored()

    async def set_config(
        self, pair: Pair, config: ConnectorConfig, *, actor: str, expected: int | None = None, beyond: int = 0
    ) -> StoredConfig:
        document = dumped(checked(pair), config)
        with self._lock:
            return self._write(pair, document, actor, expected, beyond).stored()

    async def set_many(
        self, items: Sequence[tuple[Pair, ConnectorConfig]], *, actor: str, expected: Mapping[Pair, int] | None = None
    ) -> list[StoredConfig]:
        documents = prepared(items)
        with self._lock:
            rows = [self._next(pair, document, actor, (expected or {}).get(pair)) for pair, document in documents]
            for row in rows:
                self._put(row)
        return [row.stored() for row in rows]

    async def delete_config(self, pair: Pair, *, actor: str, expected: int | None = None) -> int:
        with self._lock:
            return self._write(checked(pair), None, actor, expected).revision

    async def forget_tenant(self, tenant: str, *, actor: str) -> list[Change]:
        tenant_id(tenant)
        with self._lock:
            pairs = sorted(pair for pair in self._rows if pair.tenant == tenant)
            for pair in pairs:
                if self._rows[pair].document is not None:
                    self._write(pair, None, actor, None)
                self._history.pop(pair, None)
            return [self._rows[pair].change() for pair in pairs]

    def _write(self, pair: Pair, document: str | None, actor: str, expected: int | None, beyond: int = 0) -> Row:
        row = self._next(pair, document, actor, expected, beyond)
        self._put(row)
        return row

    def _next(self, pair: Pair, document: str | None, actor: str, expected: int | None, beyond: int = 0) -> Row:
        old, now_ms = self._rows.get(pair), time.time_ns() // 1_000_000
        return following(old, pair, document, actor=actor, expected=expected, now_ms=now_ms, beyond=beyond)

    def _put(self, row: Row) -> None:
        self._count += 1
        self._rows.pop(row.pair, None)
        self._rows[row.pair] = row
        self._written[row.pair] = self._count
        self._history.setdefault(row.pair, deque(maxlen=KEPT_REVISIONS)).appendleft(row)

    async def list_connectors(self, tenant: str) -> list[str]:
        return sorted(pair.connector for pair in self._live() if pair.tenant == tenant)

    async def list_tenants(self, *, cursor: str | None = None, limit: int = 100) -> Page[str]:
        tenants = sorted({pair.tenant for pair in self._live() if cursor is None or pair.tenant > cursor})
        return Page(tuple(tenants[:limit]), tenants[limit - 1] if len(tenants) > limit else None)

    async def list_pairs(self, *, cursor: str | None = None, limit: int = 500) -> Page[StoredConfig | Broken]:
        pairs = sorted(pair for pair in self._live() if cursor is None or pair > Pair.parse(cursor))
        items = tuple(self._rows[pair].listed() for pair in pairs[:limit])
        return Page(items, str(pairs[limit - 1]) if len(pairs) > limit else None)

    def _live(self) -> list[Pair]:
        return [pair for pair, row in self._rows.items() if row.document is not None]

    async def changes_since(self, cursor: str | None, *, limit: int = 500) -> Changes:
        epoch, _, position = (cursor or "").partition(":")
        seen = int(position) if epoch == self._epoch and position.isdecimal() else 0
        news = list(islice((row for row in self._rows.values() if self._written[row.pair] > seen), limit + 1))
        items = news[:limit]
        seen = self._written[items[-1].pair] if items else seen
        return Changes(tuple(row.change() for row in items), f"{self._epoch}:{seen}", more=len(news) > limit)

    async def history(self, pair: Pair, limit: int = KEPT_REVISIONS) -> list[Revision]:
        return [row.past() for row in islice(self._history.get(checked(pair), ()), limit)]

    async def ping(self) -> None:
        return

    async def aclose(self) -> None:
        return
