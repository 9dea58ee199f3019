"""What every audit sink promises: one chain, whoever appends, in which tampering shows."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from registry.audit import START, Action, AuditRecord, AuditSink, Broken, Entry, Head, chained, digest, verified
from registry.audit.firestore import FirestoreAudit
from registry.audit.lines import LinesAudit
from registry.audit.memory import MemoryAudit
from registry.audit.sqlite import SqliteAudit
from registry.errors import StoreUnavailable

SINKS: dict[str, Callable[[Path], AuditSink]] = {
    "memory": lambda _: MemoryAudit(),
    "sqlite": lambda folder: SqliteAudit(folder / "registry.db", busy_timeout=30.0),
    "file": lambda folder: LinesAudit(folder / "audit.jsonl"),
    "firestore": lambda folder: FirestoreAudit(folder.name.replace("_", "-").lower(), budget=30.0),
}
SHARED = ["sqlite", "file", "firestore"]


@pytest.fixture(params=SINKS)
async def sink(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AuditSink]:
    if request.param == "firestore":
        request.getfixturevalue("firestore_host")
    made = SINKS[request.param](tmp_path)
    yield made
    await made.aclose()


def entry(number: int, tenant: str = "acme") -> Entry:
    return Entry(Action.CONFIGURED, "ann", 1_790_000_000_000 + number, tenant, "github", number - 1, number, {"n": "ÿ"})


async def test_records_are_numbered_and_chained_from_the_first(sink: AuditSink) -> None:
    assert await sink.records() == []
    await sink.append([entry(1)])
    head = await sink.append([entry(2), entry(3)])
    records = await sink.records()
    assert [record.number for record in records] == [1, 2, 3]
    assert verified(records) == head
    assert records[0].as_dict() == {
        "number": 1,
        "previous": START.hash,
        "at_ms": 1_790_000_000_001,
        "actor": "ann",
        "action": "configured",
        "tenant": "acme",
        "connector": "github",
        "before": 0,
        "after": 1,
        "detail": {"n": "ÿ"},
        "hash": records[0].hash,
    }


async def test_reading_goes_on_where_it_ended(sink: AuditSink) -> None:
    await sink.append([entry(number) for number in range(1, 8)])
    first = await sink.records(limit=4)
    rest = await sink.records(after=4, limit=4)
    assert [record.number for record in first + rest] == [1, 2, 3, 4, 5, 6, 7]
    assert verified(rest, verified(first)).number == 7


async def test_the_latest_are_the_tenants_own_in_order(sink: AuditSink) -> None:
    await sink.append([entry(number, "acme" if number % 2 else "globex") for number in range(1, 8)])
    assert [record.number for record in await sink.latest(3)] == [5, 6, 7]
    assert [record.number for record in await sink.latest(2, tenant="globex")] == [4, 6]
    assert await sink.latest(tenant="nobody") == []


async def test_concurrent_appends_make_one_chain(sink: AuditSink) -> None:
    await asyncio.gather(*[sink.append([entry(number)]) for number in range(20)])
    assert verified(await sink.records()).number == 20


def _append(kind: str, folder: Path, start: int) -> None:
    async def run() -> None:
        sink = SINKS[kind](folder)
        for number in range(start, start + 25):
            await sink.append([entry(number)])
        await sink.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("kind", SHARED)
async def test_processes_append_to_one_chain(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "firestore":
        request.getfixturevalue("firestore_host")
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_append, args=(kind, tmp_path, 100 * number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        await asyncio.to_thread(worker.join)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    sink = SINKS[kind](tmp_path)
    records = await sink.records()
    await sink.aclose()
    assert verified(records).number == 75
    assert {record.as_dict()["after"] for record in records} == {100 * w + n for w in range(3) for n in range(25)}


def three() -> list[AuditRecord]:
    return chained([entry(1), entry(2), entry(3)], START)


def changed(record: AuditRecord) -> AuditRecord:
    return AuditRecord(record.number, record.text.replace("ann", "eve"), record.hash)


def rehashed(record: AuditRecord) -> AuditRecord:
    text = record.text.replace("ann", "eve")
    return AuditRecord(record.number, text, digest(text))


@pytest.mark.parametrize(
    ("spoil", "number"),
    [
        (lambda r: [r[0], changed(r[1]), r[2]], 2),
        (lambda r: [r[0], rehashed(r[1]), r[2]], 3),
        (lambda r: [r[0], r[2]], 2),
        (lambda r: [r[1], r[2]], 1),
        (lambda r: [r[0], AuditRecord(2, r[2].text, r[2].hash), r[1]], 2),
        (lambda r: [r[0], AuditRecord(2, "nonsense", digest("nonsense")), r[2]], 2),
    ],
)
def test_what_was_changed_removed_or_swapped_breaks_the_chain_there(
    spoil: Callable[[list[AuditRecord]], list[AuditRecord]], number: int
) -> None:
    with pytest.raises(Broken) as broken:
        verified(spoil(three()))
    assert broken.value.number == number


def test_an_untouched_chain_holds() -> None:
    records = three()
    assert verified(records) == Head(3, records[2].hash)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET text = ''",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit (number, text, hash) VALUES (1, '', '')",
        "INSERT INTO audit (number, text, hash) VALUES (9, '', '')",
    ],
)
async def test_sqlite_itself_refuses_to_change_what_is_written(tmp_path: Path, statement: str) -> None:
    sink = SINKS["sqlite"](tmp_path)
    await sink.append([entry(1)])
    await sink.aclose()
    connection = sqlite3.connect(tmp_path / "registry.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


async def test_a_line_that_a_crash_left_unfinished_is_replaced_by_the_next_record(tmp_path: Path) -> None:
    path, sink = tmp_path / "audit.jsonl", LinesAudit(tmp_path / "audit.jsonl")
    await sink.append([entry(1), entry(2)])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"record": "{\\"numb')
    assert len(await sink.records()) == 2
    await sink.append([entry(3)])
    assert verified(await sink.records()).number == 3
    assert path.read_bytes().startswith(whole)


async def test_a_file_that_ends_in_nonsense_is_not_continued(tmp_path: Path) -> None:
    path, sink = tmp_path / "audit.jsonl", LinesAudit(tmp_path / "audit.jsonl")
    await sink.append([entry(1)])
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(StoreUnavailable, match="audit verify"):
        await sink.append([entry(2)])
    with pytest.raises(Broken, match="record 2"):
        verified(await sink.records())


async def test_a_firestore_that_is_away_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:9")
    sink = FirestoreAudit("test", budget=0.2)
    with pytest.raises(StoreUnavailable):
        await sink.append([entry(1)])
    await sink.aclose()


@pytest.mark.parametrize("kind", ["sqlite", "file"])
async def test_a_sink_that_cannot_be_written_is_a_typed_error(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    sink = SINKS[kind](tmp_path / "file")
    with pytest.raises(StoreUnavailable):
        await sink.append([entry(1)])
    await sink.aclose()


async def test_the_files_are_their_owners_only(tmp_path: Path) -> None:
    sink = LinesAudit(tmp_path / "audit.jsonl")
    await sink.append([entry(1)])
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o077 == 0
