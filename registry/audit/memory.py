"""The audit log in this process's memory, beside configurations that are kept there too."""

from __future__ import annotations

from collections.abc import Sequence

from registry.audit import START, AuditRecord, Entry, Head, chained


class MemoryAudit:
    """An `AuditSink` that ends with its process."""

    def __init__(self) -> None:
        self._records: list[AuditRecord] = []
        self._head = START

    async def append(self, entries: Sequence[Entry]) -> Head:
        """See `AuditSink`."""
        self._records += chained(entries, self._head)
        last = self._records[-1]
        self._head = Head(last.number, last.hash)
        return self._head

    async def records(self, after: int = 0, limit: int = 500) -> list[AuditRecord]:
        """See `AuditSink`."""
        return self._records[after : after + limit]

    async def latest(self, limit: int = 50, *, tenant: str | None = None) -> list[AuditRecord]:
        """See `AuditSink`."""
        return [record for record in self._records if tenant in (None, record.as_dict().get("tenant"))][-limit:]

    async def aclose(self) -> None:
        """Nothing to give back."""
