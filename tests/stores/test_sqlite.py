"""What is particular to SQLite: several processes, forks, a file that is in trouble."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from registry.connector import BearerAuth, ConnectorConfig, SecretRef
from registry.errors import ConflictError, NotConfigured, StoreUnavailable
from registry.ids import Pair
from registry.stores.sqlite import SqliteStore

PAIR = Pair("github", "acme")

WRITER = """
import asyncio, sys
from registry.connector import BearerAuth, ConnectorConfig, SecretRef
from registry.errors import ConflictError, NotConfigured
from registry.ids import Pair
from registry.stores.sqlite import SqliteStore

async def main(path, name, last):
    store = SqliteStore(path, busy_timeout=60)
    config = ConnectorConfig(auth=BearerAuth(token=SecretRef("env://T")), label=name)
    revision = 0
    while revision < last:
        try:
            revision = (await store.set_config(Pair("github", "acme"), config, actor=name, expected=revision)).revision
            print(revision, flush=True)
        except ConflictError:
            revision = (await store.get_config(Pair("github", "acme"))).revision
    await store.aclose()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""

FORKING = """
import asyncio, os, sys
from registry.connector import BearerAuth, ConnectorConfig, SecretRef
from registry.ids import Pair
from registry.stores.sqlite import SqliteStore

store = SqliteStore(sys.argv[1])
config = ConnectorConfig(auth=BearerAuth(token=SecretRef("env://T")))
set_one = lambda name: asyncio.run(store.set_config(Pair("github", name), config, actor=name))

set_one("parent-before")
ours, theirs = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    set_one("child-first")
    os.write(theirs[1], b"1")
    os.read(ours[0], 1)
    set_one("child-second")
    os._exit(0)
os.read(theirs[0], 1)
asyncio.run(store.aclose())
asyncio.run(SqliteStore(sys.argv[1]).ping())
os.write(ours[1], b"1")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def config(label: str = "first") -> ConnectorConfig:
    return ConnectorConfig(auth=BearerAuth(token=SecretRef("env://TOKEN")), label=label)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "data" / "registry.db", busy_timeout=0.1)
    yield made
    await made.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "registry.db"


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_several_processes_exactly_one_writes_each_revision(path: Path) -> None:
    last = 60
    processes = [python(WRITER, path, f"p{number}", last) for number in range(4)]
    written = [int(line) for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(written) == list(range(1, len(written) + 1))
    assert max(written) >= last


async def test_processes_that_create_the_file_together_all_succeed(path: Path) -> None:
    processes = [python(WRITER, path, f"p{number}", 1) for number in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    for process in processes:
        process.communicate()
    store = SqliteStore(path)
    assert (await store.get_config(PAIR)).revision == 1
    await store.aclose()


async def test_a_forked_child_keeps_its_writes_when_the_parent_closes(path: Path, store: SqliteStore) -> None:
    process = python(FORKING, path)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (await store.list_tenants()).items == ("child-first", "child-second", "parent-before")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_the_file_and_its_directory_are_their_owners_only(path: Path, store: SqliteStore) -> None:
    await store.set_config(PAIR, config(), actor="ann")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_changes_are_told_once_when_nothing_new_happened(store: SqliteStore) -> None:
    await store.set_config(PAIR, config(), actor="ann")
    changes = await store.changes_since(None)
    assert len(changes.items) == 1
    assert (await store.changes_since(changes.cursor)).items == ()


async def test_a_cursor_of_another_file_starts_from_the_beginning(tmp_path: Path, store: SqliteStore) -> None:
    other = SqliteStore(tmp_path / "other.db")
    for _ in range(3):
        await other.set_config(PAIR, config(), actor="ann")
    cursor = (await other.changes_since(None)).cursor
    await other.aclose()
    await store.set_config(PAIR, config(), actor="ann")
    assert [change.pair for change in (await store.changes_since(cursor)).items] == [PAIR]


async def test_a_writer_that_waits_too_long_says_the_file_is_locked(path: Path, store: SqliteStore) -> None:
    await store.set_config(PAIR, config(), actor="ann")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"registry\.db.*locked"):
        await store.set_config(PAIR, config(), actor="bob")
    assert (await store.get_config(PAIR)).actor == "ann"
    blocker.execute("ROLLBACK")
    blocker.close()
    assert (await store.set_config(PAIR, config(), actor="bob")).revision == 2


async def test_a_file_that_is_no_database_is_named_and_left_alone(path: Path, store: SqliteStore) -> None:
    path.parent.mkdir()
    path.write_bytes(b"these are somebody's notes, " * 100)
    with pytest.raises(StoreUnavailable, match=r"registry\.db.*not a database"):
        await store.get_config(PAIR)
    assert path.read_bytes().startswith(b"these are")


async def test_a_damaged_file_is_unavailable_until_it_is_restored(path: Path, store: SqliteStore) -> None:
    await store.set_config(PAIR, config(), actor="ann")
    await store.aclose()
    good = path.read_bytes()
    path.write_bytes(good[:4096] + b"\xff" * (len(good) - 4096))
    with pytest.raises(StoreUnavailable, match=r"registry\.db.*malformed"):
        await store.get_config(PAIR)
    path.write_bytes(good)
    assert (await store.get_config(PAIR)).revision == 1


async def test_a_file_of_a_later_version_is_refused(path: Path, store: SqliteStore) -> None:
    await store.ping()
    await store.aclose()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(StoreUnavailable, match=r"registry\.db has layout 9"):
        await store.get_config(PAIR)


async def test_an_unwritable_directory_is_named() -> None:
    store = SqliteStore("/proc/registry/registry.db")  # where not even root may write
    with pytest.raises(StoreUnavailable, match=r"/proc/registry/registry\.db"):
        await store.set_config(PAIR, config(), actor="ann")
    await store.aclose()


async def test_a_full_disk_is_unavailable_and_loses_nothing(path: Path, store: SqliteStore) -> None:
    await store.set_config(PAIR, config(), actor="ann")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(file.stat().st_size for file in path.parent.iterdir()), hard))
    try:
        with pytest.raises(StoreUnavailable, match=r"registry\.db"):
            await store.set_many(
                [(Pair("github", f"t{number}"), config("x" * 200)) for number in range(500)], actor="bob"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = await store.get_config(PAIR)
    assert (kept.revision, kept.actor) == (1, "ann")
    assert (await store.list_tenants()).items == ("acme",)
    assert (await store.set_config(PAIR, config(), actor="cid", expected=1)).revision == 2


async def test_a_replaced_file_is_noticed(path: Path, store: SqliteStore) -> None:
    await store.set_config(PAIR, config(), actor="ann")
    for file in list(path.parent.iterdir()):
        file.unlink()
    with pytest.raises(NotConfigured):
        await store.get_config(PAIR)
    await store.set_config(PAIR, config(), actor="bob", expected=0)
    fresh = SqliteStore(path)
    assert (await fresh.get_config(PAIR)).actor == "bob"
    await fresh.aclose()


async def test_a_cancelled_caller_leaves_the_store_usable(path: Path, store: SqliteStore) -> None:
    await store.ping()
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await store.set_config(PAIR, config(), actor="ann")
    blocker.execute("ROLLBACK")
    blocker.close()
    with suppress(ConflictError):
        await store.set_config(PAIR, config(), actor="bob", expected=0)
    assert (await store.get_config(PAIR)).revision == 1


def test_one_store_serves_several_event_loops(path: Path) -> None:
    store = SqliteStore(path)
    for number in range(1, 4):
        assert asyncio.run(store.set_config(PAIR, config(), actor="ann")).revision == number
    asyncio.run(store.aclose())


async def test_a_hundred_thousand_pairs_are_listed_in_the_memory_of_a_page(path: Path, store: SqliteStore) -> None:
    await store.set_config(PAIR, config(), actor="ann")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
            " INSERT INTO configs SELECT 't' || i, connector, 1, document, actor, updated_ms, i FROM configs, n"
        )
        connection.commit()
    page = await store.list_pairs(limit=500)
    seen = len(page.items)
    while page.next_cursor is not None:
        if seen == 95_000:  # tracing is slow, and any page shows whether it holds more than its own
            tracemalloc.start()
        page = await store.list_pairs(cursor=page.next_cursor, limit=500)
        seen += len(page.items)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == 100_000
    assert 0 < peak < 4_000_000
