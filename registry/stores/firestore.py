"""Configurations in Google Firestore. The only file that imports its client.

One document a pair, ``tenant-connectors/{tenant}/connectors/{connector}``, and below it its ``revisions``. The tenant's
own document is never written, so everything is enumerated by collection group, which needs the indexes of
``firestore.indexes.json``. A write is a read and then a commit with the precondition that nothing changed since: a
lock-taking transaction would wait for the others instead of noticing them.
https://firebase.google.com/docs/firestore/reference/rpc/google.firestore.v1
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from registry.connector import ConnectorConfig
from registry.errors import ConflictError, InvalidId
from registry.ids import Pair, decoded, encoded, tenant_id
from registry.stores import Broken, Change, Changes, Page, Revision, StoredConfig, TenantConfigStore
from registry.stores.firestore_client import FirestoreClient, commit
from registry.stores.rows import KEPT_REVISIONS, Row, checked, dumped, following, not_configured, prepared
from registry.stores.sweep import Position, Sweep

if TYPE_CHECKING:
    from google.cloud.firestore_v1 import (
        AsyncClient,
        AsyncCollectionReference,
        AsyncDocumentReference,
        AsyncQuery,
        DocumentSnapshot,
    )

    Snapshot = DocumentSnapshot[AsyncDocumentReference]

T = TypeVar("T")
Call = Callable[["AsyncClient", float], Awaitable[T]]

ROOT = "tenant-connectors"
GROUP = "connectors"
_FIRST = f"{ROOT}/!/{GROUP}/!"  # "!" and "~" sort before and after every encoded id
_LAST = f"{ROOT}/~/{GROUP}/~"
_NAMES = 500  # documents whose names are read at a time while looking for tenants


class FirestoreStore(TenantConfigStore):
    """A `TenantConfigStore` in Firestore, or in its emulator where ``FIRESTORE_EMULATOR_HOST`` is set.

    Args:
        project: Google Cloud project; None takes the environment's.
        database: the database's name.
        budget: seconds for one call with its retries before `StoreUnavailable`.
        overlap: seconds that `changes_since` reads again, since a commit may become visible later than one with a
            later timestamp; a commit takes at most a minute.

    Raises:
        StoreUnavailable: the client is not installed.
    """

    def __init__(
        self,
        project: str | None = None,
        *,
        database: str = "(default)",
        budget: float = 5.0,
        overlap: float = 60.0,
    ) -> None:
        self._firestore = FirestoreClient(project, database=database, budget=budget)
        self._call, self._select = self._firestore.call, self._firestore.select
        self._overlap = dt.timedelta(seconds=overlap)

    async def get_config(self, pair: Pair) -> StoredConfig:
        pair = checked(pair)
        snapshot = await self._call(lambda client, timeout: _document(client, pair).get(retry=None, timeout=timeout))
        if not snapshot.exists:
            raise not_configured(pair)
        return _row(pair, snapshot).stored()

    async def set_config(
        self, pair: Pair, config: ConnectorConfig, *, actor: str, expected: int | None = None, beyond: int = 0
    ) -> StoredConfig:
        document = dumped(checked(pair), config)
        rows = await self._write([(pair, document)], actor=actor, expected={pair: expected}, beyond=beyond)
        return rows[0].stored()

    async def set_many(
        self, items: Sequence[tuple[Pair, ConnectorConfig]], *, actor: str, expected: Mapping[Pair, int] | None = None
    ) -> list[StoredConfig]:
        written: dict[Pair, StoredConfig] = {}
        documents = prepared(items)
        for _, group in groupby(sorted(documents, key=_tenant_of), key=_tenant_of):
            try:
                rows = await self._write(list(group), actor=actor, expected=expected or {})
            except ConflictError as error:
                error.written = tuple(written.values())
                raise
            written |= {row.pair: row.stored() for row in rows}
        return [written[pair] for pair, _ in documents]

    async def delete_config(self, pair: Pair, *, actor: str, expected: int | None = None) -> int:
        rows = await self._write([(checked(pair), None)], actor=actor, expected={pair: expected})
        return rows[0].revision

    async def forget_tenant(self, tenant: str, *, actor: str) -> list[Change]:
        folder = f"{ROOT}/{encoded(tenant_id(tenant))}/{GROUP}"
        if live := [Pair(name, tenant) for name in await self.list_connectors(tenant)]:
            await self._write([(pair, None) for pair in live], actor=actor, expected={})
        found = await self._select(lambda client: client.collection(folder).order_by("connector"))
        pairs = [(pair, snapshot) for snapshot in found if (pair := _pair(snapshot))]
        for pair, _ in pairs:
            await self._call(partial(_forget, pair))
        return [_row(pair, snapshot).change() for pair, snapshot in pairs]

    async def list_connectors(self, tenant: str) -> list[str]:
        folder = f"{ROOT}/{encoded(tenant_id(tenant))}/{GROUP}"
        found = await self._select(lambda client: _live(client.collection(folder)).select([]))
        return sorted(pair.connector for snapshot in found if (pair := _pair(snapshot)))

    async def list_tenants(self, *, cursor: str | None = None, limit: int = 100) -> Page[str]:
        tenants: dict[str, None] = {}
        after = f"{ROOT}/{encoded(cursor)}/{GROUP}/~" if cursor else _FIRST
        while len(tenants) <= limit:
            found = await self._select(_names(after))
            tenants |= {pair.tenant: None for snapshot in found if (pair := _pair(snapshot))}
            if len(found) < _NAMES:
                break
            after = f"{found[-1].reference.path.rpartition('/')[0]}/~"  # past what is left of that tenant
        names = list(tenants)
        return Page(tuple(names[:limit]), names[limit - 1] if len(names) > limit else None)

    async def list_pairs(self, *, cursor: str | None = None, limit: int = 500) -> Page[StoredConfig | Broken]:
        after = cursor if cursor and cursor.count("/") == _FIRST.count("/") else _FIRST
        found = await self._select(lambda client: _named(client, after).limit(limit + 1))
        items = tuple(_row(pair, snapshot).listed() for snapshot in found[:limit] if (pair := _pair(snapshot)))
        return Page(items, found[limit - 1].reference.path if len(found) > limit else None)

    async def changes_since(self, cursor: str | None, *, limit: int = 500) -> Changes:
        sweep = Sweep.loaded(cursor)
        found = await self._select(lambda client: _changed(client, sweep.start).limit(limit))
        settled = [snapshot for snapshot in found if _read(snapshot) - _updated(snapshot) >= self._overlap]
        seen = [(_updated(snapshot).isoformat(), snapshot.reference.path) for snapshot in found]
        more = len(found) == limit
        items = tuple(_row(pair, snapshot).change() for snapshot in found if (pair := _pair(snapshot)))
        return Changes(items, sweep.advanced(seen, settled=len(settled), more=more).dumped(), more)

    async def history(self, pair: Pair, limit: int = KEPT_REVISIONS) -> list[Revision]:
        pair = checked(pair)

        def query(client: AsyncClient) -> AsyncQuery:
            revisions = _document(client, pair).collection("revisions")
            latest: AsyncQuery = revisions.order_by("revision", direction="DESCENDING").limit(limit)
            return latest

        return [_row(pair, snapshot).past() for snapshot in await self._select(query)]

    async def ping(self) -> None:
        await self._call(lambda client, timeout: client.document("ping/ping").get(retry=None, timeout=timeout))

    async def aclose(self) -> None:
        await self._firestore.aclose()

    async def _write(
        self,
        items: Sequence[tuple[Pair, str | None]],
        *,
        actor: str,
        expected: Mapping[Pair, int | None],
        beyond: int = 0,
    ) -> list[Row]:
        commit = partial(_commit, items=items, actor=actor, expected=expected, beyond=beyond, write_id=uuid.uuid4().hex)
        return await self._call(commit)


async def _commit(
    client: AsyncClient,
    timeout: float,
    items: Sequence[tuple[Pair, str | None]],
    *,
    actor: str,
    expected: Mapping[Pair, int | None],
    beyond: int,
    write_id: str,
) -> list[Row]:
    """Read the pairs, then write them all unless one changed in between, which raises `Aborted`.

    `write_id` tells our own earlier attempt, whose answer was lost, from somebody else's write.
    """
    references = [_document(client, pair) for pair, _ in items]
    found = {
        snapshot.reference.path: snapshot async for snapshot in client.get_all(references, retry=None, timeout=timeout)
    }
    snapshots = [found[reference.path] for reference in references]
    if all((snapshot.to_dict() or {}).get("write_id") == write_id for snapshot in snapshots):
        return [_row(pair, snapshot) for (pair, _), snapshot in zip(items, snapshots, strict=True)]
    batch = client.batch()
    rows = []
    for (pair, document), snapshot in zip(items, snapshots, strict=True):
        old = _row(pair, snapshot) if snapshot.exists else None
        due = expected.get(pair)
        rows.append(following(old, pair, document, actor=actor, expected=due, now_ms=0, beyond=beyond))
        fields = _fields(rows[-1]) | {"write_id": write_id}
        if snapshot.exists:
            batch.update(snapshot.reference, fields, client.write_option(last_update_time=snapshot.update_time))
        else:
            batch.create(snapshot.reference, fields)
    for row in rows:
        revisions = _document(client, row.pair).collection("revisions")
        batch.create(revisions.document(str(row.revision)), _fields(row))
        if row.revision > KEPT_REVISIONS:
            batch.delete(revisions.document(str(row.revision - KEPT_REVISIONS)))
    results = await commit(batch, timeout)
    stamps = [result.transform_results[0].timestamp_value for result in results[: len(rows)]]
    return [dataclasses.replace(row, updated_ms=_ms(stamp)) for row, stamp in zip(rows, stamps, strict=True)]


async def _forget(pair: Pair, client: AsyncClient, timeout: float) -> None:
    """Delete a pair's history; it never has more revisions than fit into one commit."""
    batch = client.batch()
    for snapshot in await _document(client, pair).collection("revisions").select([]).get(retry=None, timeout=timeout):
        batch.delete(snapshot.reference)
    await batch.commit(retry=None, timeout=timeout)


def _path(pair: Pair) -> str:
    return f"{ROOT}/{encoded(pair.tenant)}/{GROUP}/{encoded(pair.connector)}"


def _document(client: AsyncClient, pair: Pair) -> AsyncDocumentReference:
    return client.document(_path(pair))


def _live(query: AsyncQuery | AsyncCollectionReference) -> AsyncQuery:
    from google.cloud.firestore_v1.base_query import FieldFilter

    return query.where(filter=FieldFilter("deleted", "==", False))  # noqa: FBT003 - a field's value


def _named(client: AsyncClient, after: str) -> AsyncQuery:
    """What is configured, in the order of paths, beyond the path `after`."""
    from google.cloud.firestore_v1.base_query import FieldFilter

    return (
        _live(client.collection_group(GROUP))
        .where(filter=FieldFilter("__name__", ">", client.document(after)))
        .where(filter=FieldFilter("__name__", "<", client.document(_LAST)))
        .order_by("__name__")
    )


def _names(after: str) -> Callable[[AsyncClient], AsyncQuery]:
    return lambda client: _named(client, after).select([]).limit(_NAMES)


def _changed(client: AsyncClient, start: Position | None) -> AsyncQuery:
    """What was written after `start`, in the order of time, tombstones too."""
    from google.cloud.firestore_v1.base_query import FieldFilter

    timestamp, path = start or ("1970-01-01T00:00:00+00:00", _FIRST)
    since = dt.datetime.fromisoformat(timestamp)
    return (
        client.collection_group(GROUP)
        .where(filter=FieldFilter("updated_at", ">=", since))
        .order_by("updated_at")
        .order_by("__name__")
        .start_after({"updated_at": since, "__name__": client.document(path)})
    )


def _pair(snapshot: Snapshot) -> Pair | None:
    """Whose document this is; None for somebody else's collection of the same name."""
    root, tenant, _, connector = [*snapshot.reference.path.split("/"), "", "", ""][:4]
    try:
        pair = checked(Pair(decoded(connector), decoded(tenant)))
    except InvalidId:
        return None
    return pair if root == ROOT and _path(pair) == snapshot.reference.path else None


def _fields(row: Row) -> dict[str, object]:
    from google.cloud.firestore_v1 import SERVER_TIMESTAMP

    return {
        "tenant": row.pair.tenant,
        "connector": row.pair.connector,
        "revision": row.revision,
        "deleted": row.document is None,
        "document": row.document,
        "actor": row.actor,
        "updated_at": SERVER_TIMESTAMP,
    }


def _row(pair: Pair, snapshot: Snapshot) -> Row:
    fields = snapshot.to_dict() or {}
    document = None if fields.get("deleted") else str(fields.get("document"))  # what is no text is not JSON either
    revision, actor = fields.get("revision"), str(fields.get("actor"))
    return Row(pair, revision if isinstance(revision, int) else 0, document, actor, _ms(_updated(snapshot)))


def _updated(snapshot: Snapshot) -> dt.datetime:
    stamp = (snapshot.to_dict() or {}).get("updated_at")
    return stamp if isinstance(stamp, dt.datetime) else dt.datetime.fromtimestamp(0, dt.UTC)


def _read(snapshot: Snapshot) -> dt.datetime:
    """The server's time at the read; queries give it as protobuf's type, whatever the annotation says."""
    stamp: object = snapshot.read_time
    return stamp if isinstance(stamp, dt.datetime) else snapshot.read_time.ToDatetime(tzinfo=dt.UTC)


def _ms(stamp: dt.datetime) -> int:
    return round(stamp.timestamp() * 1000)


def _tenant_of(item: tuple[Pair, str]) -> str:
    return item[0].tenant
