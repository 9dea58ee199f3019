"""Notes in Firestore, one document each; a write has the precondition that nobody wrote since it was read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from registry.errors import ConflictError
from registry.ids import encoded
from registry.notes import ABSENT, Note
from registry.stores.firestore_client import FirestoreClient, commit

if TYPE_CHECKING:
    from google.cloud.firestore_v1 import AsyncClient

    from registry.stores.firestore_client import Snapshot

COLLECTION = "connector-notes"


class FirestoreNotes:
    """A `NoteStore` in Firestore.

    Args:
        project: Google Cloud project; None takes the environment's.
        database: the database's name.
        budget: seconds for one call with its retries before `StoreUnavailable`.
    """

    def __init__(self, project: str | None = None, *, database: str = "(default)", budget: float = 5.0) -> None:
        self._firestore = FirestoreClient(project, database=database, budget=budget)

    async def read(self, name: str) -> Note:
        """See `NoteStore`."""
        return await self._firestore.call(partial(_read, name))

    async def write(self, name: str, text: str, *, expected: int) -> Note:
        """See `NoteStore`."""
        return await self._firestore.call(partial(_write, name, text, expected))

    async def aclose(self) -> None:
        """See `NoteStore`."""
        await self._firestore.aclose()


async def _read(name: str, client: AsyncClient, timeout: float) -> Note:
    return _note(await client.document(f"{COLLECTION}/{encoded(name)}").get(retry=None, timeout=timeout))


async def _write(name: str, text: str, expected: int, client: AsyncClient, timeout: float) -> Note:
    """Write, unless somebody did since it was read, which raises `Aborted`; an attempt whose answer was lost counts."""
    found = await client.document(f"{COLLECTION}/{encoded(name)}").get(retry=None, timeout=timeout)
    known = _note(found)
    if known == Note(text, expected + 1):
        return known
    if known.revision != expected:
        raise ConflictError(f"{name}: revision {known.revision} is stored, not {expected}: read it again")
    fields = {"text": text, "revision": expected + 1}
    batch = client.batch()
    if found.exists:
        batch.update(found.reference, fields, client.write_option(last_update_time=found.update_time))
    else:
        batch.create(found.reference, fields)
    await commit(batch, timeout)
    return Note(text, expected + 1)


def _note(snapshot: Snapshot) -> Note:
    fields = snapshot.to_dict() or {}
    return Note(str(fields["text"]), int(fields["revision"])) if snapshot.exists else ABSENT
