"""Where the tenants' configurations are kept: the protocol that every backend fulfils, and its value types.

Configurations hold secret *references* only. A backend orders its changes, never forgets a deletion, and tells
"this tenant has no such connector" (`NotConfigured`) from "the store is away" (`StoreUnavailable`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from registry.connector import ConnectorConfig
from registry.ids import Pair

__all__ = ["Broken", "Change", "Changes", "Page", "Revision", "StoredConfig", "TenantConfigStore"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """One pair's configuration as the store has it.

    `revision` counts this pair's writes from 1 and is never used twice, not even after a deletion. `updated_ms` is
    the store's Unix milliseconds. `schema` is the form the document was stored in, before migration.
    """

    pair: Pair
    revision: int
    config: ConnectorConfig
    actor: str
    updated_ms: int
    schema: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A stored document that can no longer be read as a configuration: `error` names the pair and the field."""

    pair: Pair
    revision: int
    error: str


@dataclass(frozen=True, slots=True)
class Revision:
    """One entry of a pair's history. `config` is None for a deletion, and for a broken document (see `error`)."""

    revision: int
    actor: str
    updated_ms: int
    deleted: bool
    config: ConnectorConfig | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """The latest state of a pair that changed. `config` is None when `deleted`, and when broken (see `error`)."""

    pair: Pair
    revision: int
    deleted: bool
    config: ConnectorConfig | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes in order, the `cursor` to go on from, and whether there are `more` to be had at once."""

    items: tuple[Change, ...]
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of an enumeration; `next_cursor` is None on the last page."""

    items: tuple[T, ...]
    next_cursor: str | None


@runtime_checkable
class TenantConfigStore(Protocol):
    """The configurations of all tenants.

    Every method raises `StoreUnavailable` when the backend does not answer within its budget, and `InvalidId` for a
    pair outside the alphabet. Cursors are opaque and belong to one store.
    """

    async def get_config(self, pair: Pair) -> StoredConfig:
        """The pair's configuration. Raises `NotConfigured`, or `InvalidConfig` for a broken document."""
        ...

    async def set_config(
        self, pair: Pair, config: ConnectorConfig, *, actor: str, expected: int | None = None, beyond: int = 0
    ) -> StoredConfig:
        """Write a configuration as the pair's next revision.

        Args:
            actor: who writes, for the history.
            expected: None writes whatever is there; 0 only if the pair is not configured; n only over revision n.
            beyond: the new revision is greater than this one, too.

        Raises:
            ConflictError: the stored revision is not the expected one.
            InvalidConfig: a secret is still clear (seal it first), or the document is too large.
        """
        ...

    async def set_many(
        self, items: Sequence[tuple[Pair, ConnectorConfig]], *, actor: str, expected: Mapping[Pair, int] | None = None
    ) -> list[StoredConfig]:
        """Write several configurations in the order given, each pair once.

        One tenant's items are written all or none. Memory and SQLite write the whole call all or none; Firestore
        goes tenant by tenant. Everything is validated before anything is written.

        Args:
            expected: of each pair, as for `set_config`; a pair that is not named is written whatever is there.

        Raises:
            ConflictError: a stored revision is not the expected one; its `written` tells what was written before.
            InvalidConfig: as for `set_config`.
        """
        ...

    async def delete_config(self, pair: Pair, *, actor: str, expected: int | None = None) -> int:
        """Delete a configuration; its tombstone's revision is returned and reported by `changes_since`.

        Raises:
            NotConfigured: there is nothing to delete.
            ConflictError: the stored revision is not the expected one.
        """
        ...

    async def forget_tenant(self, tenant: str, *, actor: str) -> list[Change]:
        """Delete everything of a tenant: configurations, history, what was deleted before.

        What stays is a bare tombstone a pair (ids, revision, actor, time), so that no revision is ever used twice and
        every follower of `changes_since` hears of it. Returns the tombstones; none for a tenant never heard of.
        """
        ...

    async def list_connectors(self, tenant: str) -> list[str]:
        """The ids of the connectors this tenant has configured, sorted. Reads no configuration."""
        ...

    async def list_tenants(self, *, cursor: str | None = None, limit: int = 100) -> Page[str]:
        """The tenants that have at least one configuration, each once."""
        ...

    async def list_pairs(self, *, cursor: str | None = None, limit: int = 500) -> Page[StoredConfig | Broken]:
        """Everything that is configured, a page at a time in bounded memory; broken documents come as `Broken`."""
        ...

    async def changes_since(self, cursor: str | None, *, limit: int = 500) -> Changes:
        """The pairs that changed after `cursor` (None: from the beginning), each with its latest state, in order.

        Never misses a change; may repeat one. A cursor that is not of this store starts from the beginning. A store
        that was replaced or restored from a backup cannot report what it never had: compare with `list_pairs` then.
        """
        ...

    async def history(self, pair: Pair, limit: int = 20) -> list[Revision]:
        """The pair's last revisions, newest first; empty if it never was configured. Backends keep the last 20."""
        ...

    async def ping(self) -> None:
        """Return if the store answers, else raise `StoreUnavailable` with what is wrong."""
        ...

    async def aclose(self) -> None:
        """Give back connections and threads. A store that is closed is opened again by its next use."""
        ...
