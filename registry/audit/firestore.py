"""The audit log in Firestore: one document a record, and one that names the chain's end.

An append is a read of the end and then a commit with the precondition that nobody appended since; records are created,
never updated. That nobody rewrites them is the database's rules' to ensure; that somebody did, the chain shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from registry.audit import START, AuditRecord, Entry, Head, chained
from registry.stores.firestore_client import FirestoreClient, commit

if TYPE_CHECKING:
    from google.cloud.firestore_v1 import AsyncClient, AsyncQuery

    from registry.stores.firestore_client import Snapshot

CHAIN = "connector-audit/chain"
RECORDS = f"{CHAIN}/records"

AT_ONCE = 400
"""Records of one commit: Firestore takes 500 writes."""


class FirestoreAudit:
    """An `AuditSink` in Firestore. Writers of all hosts share one chain.

    Args:
        project: Google Cloud project; None takes the environment's.
        database: the database's name.
        budget: seconds for one call with its retries, lost races among them, before `StoreUnavailable`.
    """

    def __init__(self, project: str | None = None, *, database: str = "(default)", budget: float = 10.0) -> None:
        self._firestore = FirestoreClient(project, database=database, budget=budget)

    async def append(self, entries: Sequence[Entry]) -> Head:
        """See `AuditSink`; beyond `AT_ONCE` entries, all or none of each so many."""
        head = START
        for first in range(0, len(entries), AT_ONCE):
            head = await self._firestore.call(partial(_commit, entries[first : first + AT_ONCE]))
        return head

    async def records(self, after: int = 0, limit: int = 500) -> list[AuditRecord]:
        """See `AuditSink`."""
        return [
            _record(found) for found in await self._firestore.select(lambda client: _following(client, after, limit))
        ]

    async def latest(self, limit: int = 50, *, tenant: str | None = None) -> list[AuditRecord]:
        """See `AuditSink`."""
        found = await self._firestore.select(lambda client: _last(client, limit, tenant))
        return [_record(snapshot) for snapshot in found][::-1]

    async def aclose(self) -> None:
        """See `AuditSink`."""
        await self._firestore.aclose()


async def _commit(entries: Sequence[Entry], client: AsyncClient, timeout: float) -> Head:
    """Append to the end that is there now; `Aborted`, and so tried again, when somebody else was faster."""
    end = await client.document(CHAIN).get(retry=None, timeout=timeout)
    fields = end.to_dict() or {}
    records = chained(entries, Head(fields["number"], fields["hash"]) if end.exists else START)
    batch = client.batch()
    for record, entry in zip(records, entries, strict=True):
        batch.create(client.document(f"{RECORDS}/{record.number:012}"), _fields(record, entry))
    head = Head(records[-1].number, records[-1].hash)
    told = {"number": head.number, "hash": head.hash}
    if end.exists:
        batch.update(end.reference, told, client.write_option(last_update_time=end.update_time))
    else:
        batch.create(end.reference, told)
    await commit(batch, timeout)
    return head


def _following(client: AsyncClient, after: int, limit: int) -> AsyncQuery:
    query: AsyncQuery = client.collection(RECORDS).order_by("number").start_after({"number": after}).limit(limit)
    return query


def _last(client: AsyncClient, limit: int, tenant: str | None) -> AsyncQuery:
    from google.cloud.firestore_v1.base_query import FieldFilter

    records: Any = client.collection(RECORDS)
    if tenant is not None:
        records = records.where(filter=FieldFilter("tenant", "==", tenant))
    query: AsyncQuery = records.order_by("number", direction="DESCENDING").limit(limit)
    return query


def _fields(record: AuditRecord, entry: Entry) -> dict[str, object]:
    return {"number": record.number, "text": record.text, "hash": record.hash, "tenant": entry.tenant}


def _record(snapshot: Snapshot) -> AuditRecord:
    fields = snapshot.to_dict() or {}
    return AuditRecord(int(fields.get("number", 0)), str(fields.get("text")), str(fields.get("hash")))
