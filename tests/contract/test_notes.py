"""What every store of notes promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from registry.errors import ConflictError, StoreUnavailable
from registry.notes import ABSENT, Note, NoteStore
from registry.notes.firestore import FirestoreNotes
from registry.notes.memory import MemoryNotes
from registry.notes.sqlite import SqliteNotes

STORES: dict[str, Callable[[Path], NoteStore]] = {
    "memory": lambda _: MemoryNotes(),
    "sqlite": lambda folder: SqliteNotes(folder / "registry.db", busy_timeout=30.0),
    "firestore": lambda folder: FirestoreNotes(folder.name.replace("_", "-").lower(), budget=30.0),
}


@pytest.fixture(params=STORES)
async def notes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NoteStore]:
    if request.param == "firestore":
        request.getfixturevalue("firestore_host")
    made = STORES[request.param](tmp_path)
    yield made
    await made.aclose()


async def test_what_was_written_is_read_with_its_revision(notes: NoteStore) -> None:
    assert await notes.read("windows") == ABSENT
    assert await notes.write("windows", "ÿ one", expected=0) == Note("ÿ one", 1)
    assert await notes.write("windows", "two", expected=1) == Note("two", 2)
    assert await notes.read("windows") == Note("two", 2)
    assert await notes.read("others") == ABSENT


async def test_a_write_over_another_revision_than_was_read_is_refused(notes: NoteStore) -> None:
    await notes.write("windows", "one", expected=0)
    for expected in (0, 2):
        with pytest.raises(ConflictError, match="revision 1 is stored"):
            await notes.write("windows", "other", expected=expected)
    assert await notes.read("windows") == Note("one", 1)


async def test_of_writers_at_once_one_is_taken(notes: NoteStore) -> None:
    results = await asyncio.gather(
        *(notes.write("windows", f"writer {number}", expected=0) for number in range(5)), return_exceptions=True
    )
    written = [result for result in results if isinstance(result, Note)]
    assert len(written) == 1
    assert [type(result) for result in results].count(ConflictError) == 4
    assert await notes.read("windows") == written[0]


@pytest.mark.parametrize("name", ["sqlite"])
async def test_a_store_that_is_away_says_so(name: str, tmp_path: Path) -> None:
    (tmp_path / "registry.db").mkdir()
    notes = STORES[name](tmp_path)
    with pytest.raises(StoreUnavailable):
        await notes.read("windows")
    await notes.aclose()
