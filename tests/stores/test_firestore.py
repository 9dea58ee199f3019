"""What is particular to Firestore: its documents and indexes, other people's collections, an emulator that dies."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import DeadlineExceeded
from google.cloud.firestore_v1 import AsyncClient
from google.cloud.firestore_v1.async_batch import AsyncWriteBatch
from google.cloud.firestore_v1.types.write import WriteResult

from registry.connector import BearerAuth, ConnectorConfig, SecretRef
from registry.errors import NotConfigured, StoreUnavailable
from registry.ids import Pair
from registry.stores.firestore import FirestoreStore
from tests.fixtures_firestore import FirestoreEmulator, free_port

PAIR = Pair("github", "acme:eu")
DOCUMENT = "tenant-connectors/acme_3aeu/connectors/github"


def config(label: str = "first") -> ConnectorConfig:
    return ConnectorConfig(auth=BearerAuth(token=SecretRef("env://TOKEN")), label=label)


@pytest.fixture
def project() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def store(firestore_host: str, project: str) -> AsyncIterator[FirestoreStore]:
    made = FirestoreStore(project, budget=20.0)
    yield made
    await made.aclose()


@pytest.fixture
async def client(firestore_host: str, project: str) -> AsyncIterator[AsyncClient]:
    made = AsyncClient(project)
    yield made
    await made._firestore_api.transport.close()


@pytest.fixture
def mortal(firestore_emulator: FirestoreEmulator, tmp_path: Path) -> Iterator[FirestoreEmulator]:
    """An emulator of this test's own."""
    emulator = FirestoreEmulator(firestore_emulator.jar, tmp_path / "log", free_port())
    emulator.start()
    yield emulator
    emulator.kill()


async def test_the_document_lies_under_its_tenant_and_tells_what_it_is(
    store: FirestoreStore, client: AsyncClient
) -> None:
    await store.set_config(PAIR, config(), actor="ann")
    fields = (await client.document(DOCUMENT).get()).to_dict()
    assert fields is not None
    assert (fields["tenant"], fields["connector"], fields["revision"], fields["actor"]) == (
        "acme:eu",
        "github",
        1,
        "ann",
    )
    assert json.loads(fields["document"])["schema"] == 1
    assert not (await client.document("tenant-connectors/acme_3aeu").get()).exists


async def test_somebody_elses_connectors_collection_is_not_ours(store: FirestoreStore, client: AsyncClient) -> None:
    await store.set_config(PAIR, config(), actor="ann")
    fields = (await client.document(DOCUMENT).get()).to_dict()
    assert fields is not None
    for path in (
        "aaa/acme/connectors/github",
        "zzz/acme/connectors/github",
        "tenant-connectors/acme_3aeu/connectors/github/connectors/github",
        "tenant-connectors/acme:eu/connectors/github",  # not the spelling of that tenant
        "tenant-connectors/acme/connectors/GIT HUB",
        "connectors/github",
    ):
        await client.document(path).set(fields)
    assert [item.pair for item in (await store.list_pairs()).items] == [PAIR]
    assert [change.pair for change in (await store.changes_since(None)).items] == [PAIR]
    assert (await store.list_tenants()).items == ("acme:eu",)
    assert await store.list_connectors("acme:eu") == ["github"]


async def test_a_document_of_the_wrong_shape_is_broken_and_mends_by_writing(
    store: FirestoreStore, client: AsyncClient
) -> None:
    await client.document(DOCUMENT).set({"deleted": False, "revision": "seven", "document": 7, "updated_at": "today"})
    (broken,) = (await store.list_pairs()).items
    assert broken.pair == PAIR
    assert (await store.set_config(PAIR, config(), actor="ann")).revision == 1
    assert (await store.get_config(PAIR)).config == config()


async def test_a_write_whose_answer_was_lost_is_not_taken_for_somebody_elses(
    store: FirestoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, losses = AsyncWriteBatch.commit, [DeadlineExceeded("the answer was lost")]  # type: ignore[no-untyped-call]  # google-api-core's

    async def losing(batch: AsyncWriteBatch, retry: None, timeout: float) -> list[WriteResult]:
        results = await commit(batch, retry=retry, timeout=timeout)
        if losses:
            raise losses.pop()
        return results

    monkeypatch.setattr(AsyncWriteBatch, "commit", losing)
    stored = await store.set_config(PAIR, config(), actor="ann", expected=0)
    assert not losses
    assert stored.revision == 1
    assert await store.get_config(PAIR) == stored


async def test_a_document_edited_by_hand_between_read_and_write_is_read_again(
    store: FirestoreStore, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.set_config(PAIR, config(), actor="ann")
    commit, edits = AsyncWriteBatch.commit, [{"revision": 7}]

    async def overtaken(batch: AsyncWriteBatch, **options: Any) -> list[WriteResult]:
        if edits:
            await client.document(DOCUMENT).update(edits.pop())
        return await commit(batch, **options)

    monkeypatch.setattr(AsyncWriteBatch, "commit", overtaken)
    assert (await store.set_config(PAIR, config(), actor="bob")).revision == 8


async def test_with_a_short_overlap_what_was_told_is_not_told_again(firestore_host: str, project: str) -> None:
    store = FirestoreStore(project, budget=20.0, overlap=0.0)
    await store.set_config(PAIR, config(), actor="ann")
    changes = await store.changes_since(None)
    assert len(changes.items) == 1
    assert (await store.changes_since(changes.cursor)).items == ()
    await store.aclose()


async def test_tenants_with_many_connectors_are_found_past_a_page_of_names(store: FirestoreStore) -> None:
    pairs = [Pair(f"c{number}", tenant) for tenant in ("a", "b", "c") for number in range(220)]
    for tenant in ("a", "b", "c"):
        await store.set_many([(pair, config()) for pair in pairs if pair.tenant == tenant], actor="ann")
    assert (await store.list_tenants()).items == ("a", "b", "c")
    assert (await store.list_tenants(limit=2)).next_cursor == "b"


async def test_an_emulator_that_is_killed_and_started_again_is_found_again(
    mortal: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", mortal.host)
    store = FirestoreStore(project, budget=1.0)
    patient = FirestoreStore(project, budget=60.0)
    await patient.set_config(PAIR, config(), actor="ann")
    mortal.kill()
    for _ in range(3):
        client = store._firestore._client()
        with pytest.raises(StoreUnavailable):
            await store.get_config(PAIR)
        assert store._firestore._client() is not client  # whose channel would wait longer each time before it connects
    waiting = asyncio.create_task(patient.get_config(PAIR))
    await asyncio.to_thread(mortal.start)
    with pytest.raises(NotConfigured):  # the emulator keeps nothing
        await waiting
    await patient.set_config(PAIR, config(), actor="ann")
    assert (await store.get_config(PAIR)).revision == 1
    await store.aclose()
    await patient.aclose()


def test_one_store_serves_several_event_loops(firestore_host: str, project: str) -> None:
    store = FirestoreStore(project, budget=20.0)

    async def write() -> int:
        revision = (await store.set_config(PAIR, config(), actor="ann")).revision
        await store.aclose()
        return revision

    assert [asyncio.run(write()) for _ in range(3)] == [1, 2, 3]


def test_a_missing_client_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.firestore_v1", None)
    with pytest.raises(StoreUnavailable, match=r'pip install "connector-registry\[gcp\]"'):
        FirestoreStore()


def test_the_shipped_indexes_cover_the_collection_group_queries() -> None:
    shipped = json.loads((Path(__file__).parents[2] / "firestore.indexes.json").read_text())
    group_wide = {
        field["fieldPath"]
        for field in shipped["fieldOverrides"]
        if field["collectionGroup"] == "connectors"
        and {"order": "ASCENDING", "queryScope": "COLLECTION_GROUP"} in field["indexes"]
    }
    assert group_wide == {"deleted", "updated_at"}
