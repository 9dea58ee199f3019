"""The audit log: who did what, when, to whose configuration; append-only, and chained so that tampering shows.

Each record's text holds the hash of the one before it, and its own hash is that of its text. Whoever changes, removes
or inserts a record breaks the chain there; whoever cuts off its end is found out by a head that was noted before.
Records name revisions and references' owners, never a value of a configuration or a secret.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, cast

from registry.health import Scalar

__all__ = ["START", "Action", "AuditRecord", "AuditSink", "Broken", "Entry", "Head", "chained", "verified"]


class Action(StrEnum):
    """What was done. Closed."""

    CONFIGURED = "configured"
    DELETED = "deleted"
    OFFBOARDED = "offboarded"
    """Everything of a tenant was removed."""
    CONNECTOR_LOADED = "connector_loaded"
    CONNECTOR_REFUSED = "connector_refused"
    CONNECTOR_UNREGISTERED = "connector_unregistered"
    SECRET_RESOLVED = "secret_resolved"  # noqa: S105 - an action's name
    """A process read a pair's secrets for the first time."""
    TRANSITION = "transition"
    """A pair's effective status or reason changed."""
    MAINTENANCE_ANNOUNCED = "maintenance_announced"
    MAINTENANCE_ENDED = "maintenance_ended"
    TOKEN_CREATED = "token_created"  # noqa: S105 - an action's name
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - an action's name
    ACCESS_DENIED = "access_denied"
    """The API turned somebody away."""
    RECORDS_LOST = "records_lost"
    """So many records could not be written while the sink was away."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened; `at_ms` is Unix milliseconds, `before` and `after` are revisions (0: none)."""

    action: Action
    actor: str
    at_ms: int
    tenant: str | None = None
    connector: str | None = None
    before: int | None = None
    after: int | None = None
    detail: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: how many records it has, and the hash of the last one."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


START = Head(0, "0" * 64)
"""The head of a chain without records."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A record as a sink keeps it: its number from 1, its text, and the hash of that text."""

    number: int
    text: str
    hash: str

    def as_dict(self) -> dict[str, Any]:
        """The JSON form. Raises `ValueError` when the text is none."""
        return cast("dict[str, Any]", json.loads(self.text)) | {"hash": self.hash}


class Broken(Exception):
    """The chain does not hold: `number` is the first record that is wrong."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"record {number}: {why}")
        self.number = number


class AuditSink(Protocol):
    """Where records are kept. Several processes may append to one chain at the same time.

    Every method raises `registry.errors.StoreUnavailable` when the sink does not answer.
    """

    async def append(self, entries: Sequence[Entry]) -> Head:
        """Chain `entries` to what is there, all or none; returns the new end."""
        ...

    async def records(self, after: int = 0, limit: int = 500) -> list[AuditRecord]:
        """The records that follow number `after`, in order."""
        ...

    async def latest(self, limit: int = 50, *, tenant: str | None = None) -> list[AuditRecord]:
        """The last records (of one tenant), in order."""
        ...

    async def aclose(self) -> None:
        """Give back connections and threads."""
        ...


def chained(entries: Iterable[Entry], head: Head) -> list[AuditRecord]:
    """The records that put `entries` at the end of the chain that ends in `head`."""
    records: list[AuditRecord] = []
    for entry in entries:
        text = _text(entry, head)
        record = AuditRecord(head.number + 1, text, digest(text))
        records.append(record)
        head = Head(record.number, record.hash)
    return records


def verified(records: Iterable[AuditRecord], head: Head = START) -> Head:
    """The end of the chain that continues `head` with `records`. Raises `Broken` at the first that does not fit."""
    for record in records:
        if record.number != head.number + 1:
            raise Broken(head.number + 1, f"missing: the next one is {record.number}")
        if digest(record.text) != record.hash:
            raise Broken(record.number, "its text is not what was written")
        told = _told(record)
        if (told.get("number"), told.get("previous")) != (record.number, head.hash):
            raise Broken(record.number, "it does not continue the record before it")
        head = Head(record.number, record.hash)
    return head


def digest(text: str) -> str:
    """SHA-256 of a record's text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _told(record: AuditRecord) -> dict[str, Any]:
    try:
        return record.as_dict()
    except ValueError:
        raise Broken(record.number, "its text is not what was written") from None


def _text(entry: Entry, head: Head) -> str:
    told = {
        "number": head.number + 1,
        "previous": head.hash,
        "at_ms": entry.at_ms,
        "actor": entry.actor,
        "action": entry.action.value,
        "tenant": entry.tenant,
        "connector": entry.connector,
        "before": entry.before,
        "after": entry.after,
        "detail": dict(entry.detail) or None,
    }
    return json.dumps({name: value for name, value in told.items() if value is not None}, separators=(",", ":"))
