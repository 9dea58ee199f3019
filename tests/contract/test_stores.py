"""What every configuration store promises, on each of them with its real backend."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from registry.connector import BearerAuth, ConnectorConfig, SecretRef
from registry.errors import ConflictError, InvalidConfig, InvalidId, NotConfigured, StoreUnavailable
from registry.ids import Pair, encoded
from registry.stores import Broken, Change, Page, StoredConfig, TenantConfigStore
from registry.stores.firestore import FirestoreStore
from registry.stores.memory import MemoryStore
from registry.stores.rows import KEPT_REVISIONS, MAX_DOCUMENT, Row
from registry.stores.sqlite import SqliteStore

GITHUB = Pair("github", "acme")
SLACK = Pair("slack", "acme")
ODD = ["acme:eu", "acme_3aeu", "acme.eu", "acme-eu", "acme@eu", "a__b", "0" * 128]
"""Tenant ids that a careless encoding would mix up or a backend would refuse."""


@dataclass
class Backend:
    """A store, a second one on the same data, and a way to spoil a document behind their backs."""

    store: TenantConfigStore
    other: TenantConfigStore
    spoil: Callable[[Pair, str], Awaitable[None]]


@pytest.fixture(params=["memory", "sqlite", "firestore"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made = {"memory": _memory, "sqlite": _sqlite, "firestore": _firestore}[request.param](request, tmp_path)
    yield made
    await made.store.aclose()
    await made.other.aclose()


@pytest.fixture
def store(backend: Backend) -> TenantConfigStore:
    return backend.store


def _memory(request: pytest.FixtureRequest, directory: Path) -> Backend:
    store = MemoryStore()

    async def spoil(pair: Pair, document: str) -> None:
        store._put(Row(pair, (await store.get_config(pair)).revision + 1, document, "vandal", 0))

    return Backend(store, store, spoil)


def _sqlite(request: pytest.FixtureRequest, directory: Path) -> Backend:
    path = directory / "registry.db"

    async def spoil(pair: Pair, document: str) -> None:
        connection = sqlite3.connect(path)
        connection.execute("UPDATE configs SET document = ? WHERE (connector, tenant) = (?, ?)", (document, *pair))
        connection.execute("UPDATE revisions SET document = ? WHERE (connector, tenant) = (?, ?)", (document, *pair))
        connection.commit()
        connection.close()

    return Backend(SqliteStore(path), SqliteStore(path), spoil)


def _firestore(request: pytest.FixtureRequest, directory: Path) -> Backend:
    request.getfixturevalue("firestore_host")
    project = f"test-{uuid.uuid4().hex[:12]}"
    store = FirestoreStore(project, budget=20.0)  # on a loaded machine the emulator is slow

    async def spoil(pair: Pair, document: str) -> None:
        path = f"tenant-connectors/{encoded(pair.tenant)}/connectors/{encoded(pair.connector)}"
        reference = store._firestore._client().document(path)
        await reference.update({"document": document})
        await reference.collection("revisions").document("1").update({"document": document})

    return Backend(store, FirestoreStore(project, budget=20.0), spoil)


def config(label: str = "first") -> ConnectorConfig:
    return ConnectorConfig(
        auth=BearerAuth(token=SecretRef("env://TOKEN")), label=label, settings={"a": [1, {"b": None}]}
    )


async def everything(store: TenantConfigStore, limit: int) -> list[StoredConfig | Broken]:
    items: list[StoredConfig | Broken] = []
    cursor = None
    while True:
        page: Page[StoredConfig | Broken] = await store.list_pairs(cursor=cursor, limit=limit)
        assert len(page.items) <= limit
        items += page.items
        cursor = page.next_cursor
        if cursor is None:
            return items


async def drained(store: TenantConfigStore, cursor: str | None, limit: int = 500) -> tuple[list[Change], str]:
    items: list[Change] = []
    while True:
        changes = await store.changes_since(cursor, limit=limit)
        items += changes.items
        cursor = changes.cursor
        if not changes.more:
            return items, cursor


async def test_what_was_set_is_read_back_whole(store: TenantConfigStore) -> None:
    stored = await store.set_config(GITHUB, config(), actor="ann")
    assert stored == await store.get_config(GITHUB)
    assert (stored.pair, stored.revision, stored.config, stored.actor) == (GITHUB, 1, config(), "ann")
    assert stored.schema == 1
    assert stored.updated_ms > 1_700_000_000_000


async def test_another_client_reads_what_was_set(backend: Backend) -> None:
    stored = await backend.store.set_config(GITHUB, config(), actor="ann")
    assert await backend.other.get_config(GITHUB) == stored


async def test_a_pair_that_was_never_set_is_not_configured(store: TenantConfigStore) -> None:
    await store.set_config(GITHUB, config(), actor="ann")
    for pair in (SLACK, Pair("github", "globex")):
        with pytest.raises(NotConfigured, match=f"tenant {pair.tenant} .* {pair.connector}"):
            await store.get_config(pair)


async def test_a_write_without_a_precondition_takes_the_next_revision(store: TenantConfigStore) -> None:
    await store.set_config(GITHUB, config(), actor="ann")
    assert (await store.set_config(GITHUB, config("second"), actor="bob")).revision == 2
    assert (await store.get_config(GITHUB)).config.label == "second"


async def test_expecting_the_stored_revision_writes(store: TenantConfigStore) -> None:
    await store.set_config(GITHUB, config(), actor="ann", expected=0)
    assert (await store.set_config(GITHUB, config("second"), actor="bob", expected=1)).revision == 2


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_expecting_another_revision_is_a_conflict_and_changes_nothing(
    store: TenantConfigStore, expected: int
) -> None:
    await store.set_config(GITHUB, config(), actor="ann")
    before = await store.set_config(GITHUB, config("second"), actor="ann")
    with pytest.raises(ConflictError, match="revision 2"):
        await store.set_config(GITHUB, config("third"), actor="bob", expected=expected)
    with pytest.raises(ConflictError):
        await store.delete_config(GITHUB, actor="bob", expected=expected)
    assert await store.get_config(GITHUB) == before
    assert len(await store.history(GITHUB)) == 2


async def test_expecting_a_revision_of_an_absent_pair_is_a_conflict(store: TenantConfigStore) -> None:
    with pytest.raises(ConflictError, match="not configured"):
        await store.set_config(GITHUB, config(), actor="ann", expected=1)
    with pytest.raises(NotConfigured):
        await store.get_config(GITHUB)


async def test_of_concurrent_writers_that_expect_one_revision_exactly_one_wins(backend: Backend) -> None:
    await backend.store.set_config(GITHUB, config(), actor="ann")

    async def write(number: int) -> int:
        store = backend.store if number % 2 else backend.other
        try:
            return (await store.set_config(GITHUB, config(str(number)), actor=str(number), expected=1)).revision
        except ConflictError:
            return 0

    assert sorted(await asyncio.gather(*map(write, range(8)))) == [0] * 7 + [2]


async def test_concurrent_writers_without_a_precondition_all_get_a_revision_of_their_own(backend: Backend) -> None:
    async def write(number: int) -> int:
        store = backend.store if number % 2 else backend.other
        return (await store.set_config(GITHUB, config(str(number)), actor=str(number))).revision

    assert sorted(await asyncio.gather(*map(write, range(8)))) == list(range(1, 9))
    assert [past.revision for past in await backend.store.history(GITHUB)] == list(range(8, 0, -1))


async def test_a_deleted_pair_is_gone_and_cannot_be_deleted_again(store: TenantConfigStore) -> None:
    await store.set_config(GITHUB, config(), actor="ann")
    assert await store.delete_config(GITHUB, actor="bob", expected=1) == 2
    with pytest.raises(NotConfigured):
        await store.get_config(GITHUB)
    with pytest.raises(NotConfigured):
        await store.delete_config(GITHUB, actor="bob")
    assert await store.list_connectors("acme") == []
    assert (await store.list_tenants()).items == ()
    assert (await store.list_pairs()).items == ()


async def test_revisions_go_on_after_a_deletion(store: TenantConfigStore) -> None:
    await store.set_config(GITHUB, config(), actor="ann")
    await store.delete_config(GITHUB, actor="bob")
    with pytest.raises(ConflictError):
        await store.set_config(GITHUB, config(), actor="ann", expected=2)
    assert (await store.set_config(GITHUB, config(), actor="ann", expected=0)).revision == 3


async def test_a_clear_secret_is_refused_by_name_without_being_shown(store: TenantConfigStore) -> None:
    clear = ConnectorConfig(auth=BearerAuth(token=SecretStr("hunter2-secret")))
    for write in (store.set_config(GITHUB, clear, actor="ann"), store.set_many([(GITHUB, clear)], actor="ann")):
        with pytest.raises(InvalidConfig, match=r"github:acme: auth\.token") as refused:
            await write
        assert "hunter2" not in str(refused.value)
    with pytest.raises(NotConfigured):
        await store.get_config(GITHUB)


async def test_an_oversized_configuration_is_refused(store: TenantConfigStore) -> None:
    large = config().model_copy(update={"settings": {"text": "x" * MAX_DOCUMENT}})
    with pytest.raises(InvalidConfig, match="characters"):
        await store.set_config(GITHUB, large, actor="ann")


async def test_a_number_that_json_has_not_is_refused(store: TenantConfigStore) -> None:
    endless = config().model_copy(update={"settings": {"a": float("inf")}})
    with pytest.raises(InvalidConfig, match=r"github:acme: .*JSON"):
        await store.set_config(GITHUB, endless, actor="ann")


@pytest.mark.parametrize("pair", [Pair("git/hub", "acme"), Pair("github", ".."), Pair("github", "*"), Pair("", "acme")])
async def test_an_invalid_id_is_refused_everywhere(store: TenantConfigStore, pair: Pair) -> None:
    with pytest.raises(InvalidId):
        await store.get_config(pair)
    with pytest.raises(InvalidId):
        await store.set_config(pair, config(), actor="ann")
    with pytest.raises(InvalidId):
        await store.delete_config(pair, actor="ann")
    with pytest.raises(InvalidId):
        await store.history(pair)


async def test_odd_ids_never_share_a_document(store: TenantConfigStore) -> None:
    pairs = [Pair(connector, tenant) for tenant in ODD for connector in ("a.b", "a-b", "a_b")]
    for number, pair in enumerate(pairs):
        await store.set_config(pair, config(str(number)), actor="ann", expected=0)
    for number, pair in enumerate(pairs):
        assert (await store.get_config(pair)).config.label == str(number)
    assert {item.pair for item in await everything(store, limit=4)} == set(pairs)
    assert set((await store.list_tenants()).items) == set(ODD)


async def test_a_tenant_lists_its_own_connectors_only(store: TenantConfigStore) -> None:
    for pair in (SLACK, GITHUB, Pair("linear", "acme2"), Pair("linear", "acme:eu")):
        await store.set_config(pair, config(), actor="ann")
    assert await store.list_connectors("acme") == ["github", "slack"]
    assert await store.list_connectors("nobody") == []


async def test_tenants_come_in_pages_each_once(store: TenantConfigStore) -> None:
    pairs = [Pair(connector, f"t{number}") for number in range(7) for connector in ("github", "slack")]
    await store.set_many([(pair, config()) for pair in pairs], actor="ann")
    seen: list[str] = []
    page = await store.list_tenants(limit=3)
    while page.next_cursor is not None:
        assert len(page.items) == 3
        seen += page.items
        page = await store.list_tenants(cursor=page.next_cursor, limit=3)
    assert sorted([*seen, *page.items]) == [f"t{number}" for number in range(7)]


@pytest.mark.parametrize("limit", [1, 3, 6, 7, 100])
async def test_pairs_come_in_pages_each_once_with_their_configuration(store: TenantConfigStore, limit: int) -> None:
    pairs = [Pair(connector, tenant) for tenant in ("a", "b", "c") for connector in ("github", "slack")]
    stored = await store.set_many([(pair, config(str(pair))) for pair in pairs], actor="ann")
    found = await everything(store, limit)
    assert len(found) == len(pairs)
    assert {item.pair: item for item in found} == {item.pair: item for item in stored}


async def test_a_page_that_ends_exactly_at_the_end_is_the_last(store: TenantConfigStore) -> None:
    await store.set_many([(GITHUB, config()), (SLACK, config())], actor="ann")
    assert (await store.list_pairs(limit=2)).next_cursor is None
    assert (await store.list_tenants(limit=1)).next_cursor is None


async def test_a_cursor_that_is_nonsense_is_no_error(store: TenantConfigStore) -> None:
    await store.set_config(GITHUB, config(), actor="ann")
    for cursor in ("nonsense", "9:9", "[1, 2]", '[["a", "b"], null]', "../.."):
        assert [change.pair for change in (await store.changes_since(cursor)).items] == [GITHUB]
        await store.list_pairs(cursor=cursor)


async def test_set_many_writes_in_one_step_and_answers_in_order(store: TenantConfigStore) -> None:
    await store.set_config(SLACK, config(), actor="ann")
    written = await store.set_many(
        [(SLACK, config("new")), (Pair("github", "b"), config()), (GITHUB, config())], actor="bob"
    )
    assert [(item.pair, item.revision) for item in written] == [(SLACK, 2), (Pair("github", "b"), 1), (GITHUB, 1)]
    assert [await store.get_config(item.pair) for item in written] == written
    assert await store.set_many([], actor="bob") == []


async def test_set_many_with_one_bad_item_writes_nothing(store: TenantConfigStore) -> None:
    clear = ConnectorConfig(auth=BearerAuth(token=SecretStr("hunter2")))
    for bad in ((SLACK, clear), (Pair("slack", "../x"), config()), (GITHUB, config("again"))):
        with pytest.raises((InvalidConfig, InvalidId)):
            await store.set_many([(GITHUB, config()), bad], actor="ann")
    assert (await store.list_pairs()).items == ()


async def test_set_many_over_another_revision_writes_nothing_of_that_tenant(store: TenantConfigStore) -> None:
    await store.set_config(SLACK, config(), actor="ann")
    await store.set_config(SLACK, config("urgent"), actor="cid")
    items = [(GITHUB, config()), (SLACK, config("new"))]
    for expected in ({GITHUB: 0, SLACK: 1}, {SLACK: 0}, {GITHUB: 1, SLACK: 2}):
        with pytest.raises(ConflictError) as refused:
            await store.set_many(items, actor="bob", expected=expected)
        assert refused.value.written == ()
        assert (await store.list_pairs()).items == (await store.get_config(SLACK),)
        assert (await store.get_config(SLACK)).actor == "cid"
    written = await store.set_many(items, actor="bob", expected={GITHUB: 0, SLACK: 2})
    assert [item.revision for item in written] == [1, 3]


async def test_a_conflict_tells_what_was_written_before_it(store: TenantConfigStore) -> None:
    items = [(GITHUB, config()), (Pair("github", "zz"), config())]
    with pytest.raises(ConflictError) as refused:
        await store.set_many(items, actor="bob", expected={Pair("github", "zz"): 4})
    assert (await store.list_pairs()).items == refused.value.written


async def test_changes_tell_the_latest_state_of_each_pair_in_order(store: TenantConfigStore) -> None:
    await store.set_config(GITHUB, config(), actor="ann")
    await store.set_config(SLACK, config(), actor="ann")
    await store.set_config(GITHUB, config("second"), actor="ann")
    items, _ = await drained(store, None)
    assert items == [
        Change(SLACK, 1, deleted=False, config=config()),
        Change(GITHUB, 2, deleted=False, config=config("second")),
    ]


async def test_changes_after_a_cursor_hold_what_is_new_and_the_deletions(store: TenantConfigStore) -> None:
    await store.set_config(GITHUB, config(), actor="ann")
    await store.set_config(SLACK, config(), actor="ann")
    _, cursor = await drained(store, None)
    await store.delete_config(GITHUB, actor="bob")
    items, cursor = await drained(store, cursor)
    assert Change(GITHUB, 2, deleted=True, config=None) in items
    await store.set_config(SLACK, config("new"), actor="bob")
    items, _ = await drained(store, cursor)
    assert items[-1] == Change(SLACK, 2, deleted=False, config=config("new"))


async def test_changes_read_one_at_a_time_miss_nothing_while_others_write(backend: Backend) -> None:
    pairs = [Pair("github", f"t{number}") for number in range(6)]
    await backend.store.set_many([(pair, config()) for pair in pairs], actor="ann")
    seen: dict[Pair, int] = {}
    cursor = None
    for pair in [*pairs, *pairs]:
        changes = await backend.store.changes_since(cursor, limit=1)
        seen |= {change.pair: change.revision for change in changes.items}
        cursor = changes.cursor
        await backend.other.set_config(pair, config("new"), actor="bob")
    items, _ = await drained(backend.store, cursor, limit=1)
    seen |= {change.pair: change.revision for change in items}
    assert seen == dict.fromkeys(pairs, 3)


async def test_history_tells_who_wrote_what_newest_first(store: TenantConfigStore) -> None:
    await store.set_config(GITHUB, config(), actor="ann")
    await store.delete_config(GITHUB, actor="bob")
    await store.set_config(GITHUB, config("again"), actor="cid")
    past = await store.history(GITHUB)
    assert [(item.revision, item.actor, item.deleted, item.config) for item in past] == [
        (3, "cid", False, config("again")),
        (2, "bob", True, None),
        (1, "ann", False, config()),
    ]
    assert past[0].updated_ms >= past[1].updated_ms >= past[2].updated_ms > 0
    assert [item.revision for item in await store.history(GITHUB, limit=2)] == [3, 2]
    assert await store.history(SLACK) == []


async def test_history_keeps_the_last_revisions_only(store: TenantConfigStore) -> None:
    for number in range(KEPT_REVISIONS + 3):
        await store.set_config(GITHUB, config(str(number)), actor="ann")
    past = await store.history(GITHUB, limit=100)
    assert [item.revision for item in past] == list(range(KEPT_REVISIONS + 3, 3, -1))


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ("{not json", "not JSON"),
        ('{"auth": {"type": "bearer", "token": "env://T"}}', "schema"),
        ('{"schema": 99, "auth": {"type": "bearer", "token": "env://T"}}', "schema 99"),
        ('{"schema": 1, "auth": {"type": "bearer"}}', r"auth\.bearer\.token"),
        ('{"schema": 1, "auth": {"type": "bearer", "token": "env://T"}, "colour": 1}', "colour"),
        ('{"schema": 1, "auth": {"type": "bearer", "token": "env://T"}, "settings": {"a": NaN}}', "settings"),
        ('{"schema": 1, "auth": {"type": "bearer", "token": "env://T"}, "settings": {"a": "\\ud800"}}', "settings"),
    ],
)
async def test_a_broken_document_names_pair_and_field_and_hides_no_other(
    backend: Backend, document: str, field: str
) -> None:
    store = backend.store
    await store.set_config(GITHUB, config(), actor="ann")
    await store.set_config(SLACK, config(), actor="ann")
    await backend.spoil(GITHUB, document)
    with pytest.raises(InvalidConfig, match=f"github:acme: .*{field}"):
        await store.get_config(GITHUB)
    found = {item.pair: item for item in await everything(store, limit=1)}
    broken = found[GITHUB]
    assert isinstance(broken, Broken)
    assert "github:acme" in broken.error
    assert isinstance(found[SLACK], StoredConfig)
    changes = {change.pair: change for change in (await drained(store, None))[0]}
    assert (changes[GITHUB].config, changes[GITHUB].deleted, changes[GITHUB].error) == (None, False, broken.error)
    assert changes[SLACK].config == config()
    assert (await store.history(GITHUB))[0].error == broken.error
    assert await store.list_connectors("acme") == ["github", "slack"]


async def test_a_broken_document_can_be_written_over_and_deleted(backend: Backend) -> None:
    stored = await backend.store.set_config(GITHUB, config(), actor="ann")
    await backend.spoil(GITHUB, "{")
    assert (await backend.store.set_config(GITHUB, config("good"), actor="ann")).revision > stored.revision
    assert (await backend.store.get_config(GITHUB)).config.label == "good"
    await backend.spoil(GITHUB, "{")
    await backend.store.delete_config(GITHUB, actor="ann")
    with pytest.raises(NotConfigured):
        await backend.store.get_config(GITHUB)


async def test_a_store_that_answers_pings_and_opens_again_after_it_was_closed(store: TenantConfigStore) -> None:
    await store.ping()
    await store.set_config(GITHUB, config(), actor="ann")
    await store.aclose()
    assert (await store.get_config(GITHUB)).revision == 1


@pytest.mark.parametrize("kind", ["sqlite", "firestore"])
async def test_a_store_that_is_away_is_unavailable_and_never_not_configured(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    stores: dict[str, TenantConfigStore] = {
        "sqlite": SqliteStore(tmp_path / "file" / "registry.db"),
        "firestore": FirestoreStore("test", budget=0.2),
    }
    store = stores[kind]
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.get_config(GITHUB),
        lambda: store.set_config(GITHUB, config(), actor="ann"),
        lambda: store.set_many([(GITHUB, config())], actor="ann"),
        lambda: store.delete_config(GITHUB, actor="ann"),
        lambda: store.list_connectors("acme"),
        store.list_tenants,
        store.list_pairs,
        lambda: store.changes_since(None),
        lambda: store.history(GITHUB),
        store.ping,
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match=rf"(?i)configuration store {os.sep if kind == 'sqlite' else kind}"):
            await call()
    await store.aclose()


async def test_forgetting_a_tenant_leaves_bare_tombstones_and_nobody_elses_are_touched(backend: Backend) -> None:
    store, other = backend.store, Pair("github", "acme.eu")
    for label in ("one", "two"):
        await store.set_config(GITHUB, config(label), actor="ann")
    await store.set_config(SLACK, config(), actor="ann")
    await store.delete_config(SLACK, actor="ann")
    await store.set_config(other, config(), actor="ann")
    _, cursor = await drained(store, None)
    left = await store.forget_tenant("acme", actor="bob")
    assert left == [Change(GITHUB, 3, deleted=True, config=None), Change(SLACK, 2, deleted=True, config=None)]
    assert await backend.other.list_connectors("acme") == []
    assert [await store.history(pair) for pair in (GITHUB, SLACK)] == [[], []]
    with pytest.raises(NotConfigured):
        await store.get_config(GITHUB)
    assert (await store.get_config(other)).revision == 1
    assert len(await store.history(other)) == 1
    news, _ = await drained(store, cursor)
    assert Change(GITHUB, 3, deleted=True, config=None) in news, "followers hear of it"


async def test_forgetting_a_tenant_can_be_repeated_and_finds_broken_documents_too(backend: Backend) -> None:
    await backend.store.set_config(GITHUB, config(), actor="ann")
    await backend.spoil(GITHUB, "not JSON")
    first = await backend.store.forget_tenant("acme", actor="bob")
    assert [change.pair for change in first] == [GITHUB]
    assert await backend.store.forget_tenant("acme", actor="bob") == first
    assert await backend.store.forget_tenant("nobody", actor="bob") == []


async def test_a_tenant_that_comes_back_goes_on_with_new_revisions(store: TenantConfigStore) -> None:
    await store.set_config(GITHUB, config(), actor="ann")
    await store.forget_tenant("acme", actor="bob")
    assert (await store.set_config(GITHUB, config("new"), actor="ann", expected=0)).revision == 3
    assert [entry.revision for entry in await store.history(GITHUB)] == [3]


async def test_a_revision_goes_beyond_what_is_asked(store: TenantConfigStore) -> None:
    config = ConnectorConfig(auth=BearerAuth(token=SecretRef("env://TOKEN")))
    assert (await store.set_config(GITHUB, config, actor="test", beyond=7)).revision == 8
    assert (await store.set_config(GITHUB, config, actor="test", expected=8, beyond=3)).revision == 9
