"""What the cache keeps of one pair, its compact wire form, and how a reader sees it.

The wire form is a head line ``revision.fence`` and a JSON document with short names: the head is what the write
script compares, the body is opaque to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from registry.health import (
    REASONS,
    Evidence,
    Fault,
    HealthCheck,
    HealthStatus,
    Quota,
    Reason,
    Status,
    StepStatus,
    Verdict,
)
from registry.ids import SYSTEM, Pair


class Kind(StrEnum):
    """What a record stands for."""

    CHECKED = "c"
    WAITING = "w"
    """Configured, or newly configured: no check of this revision has finished yet."""
    GONE = "g"
    """Tombstone of a deleted pair: refuses results that are still under way."""


@dataclass(frozen=True, slots=True)
class Record:
    """The stored state of a pair: the effective verdict, the counters behind it, and the order stamps.

    `revision` and `fence` order writes. `verdict` is the check that the effective verdict rests on, `raw` the
    newest check where its own verdict is another. `failures` counts transient failures in a row, `successes`
    usable checks in a row, `consecutive` checks in a row with the same raw outcome. Times are Unix milliseconds.
    """

    revision: int
    fence: int
    kind: Kind = Kind.WAITING
    status: Status = Status.UNKNOWN
    reason: Reason = Reason.NOT_CHECKED
    fault: Fault = Fault.PLATFORM
    since_ms: int = 0
    fresh_until_ms: int = 0
    consecutive: int = 0
    failures: int = 0
    successes: int = 0
    authenticated_ms: int = 0
    verdict: Verdict | None = None
    raw: Verdict | None = None

    @property
    def head(self) -> str:
        """The order stamp in its wire form."""
        return f"{self.revision}.{self.fence}"

    @property
    def newest(self) -> Verdict | None:
        """The newest check's own verdict."""
        return self.raw or self.verdict

    def precedes(self, revision: int, fence: int) -> bool:
        """May a result with this stamp replace the record? Only a strictly newer one."""
        return (self.revision, self.fence) < (revision, fence)


def encode(record: Record) -> bytes:
    """The wire form of `record`."""
    body: dict[str, Any] = {"k": record.kind.value}
    if record.kind is Kind.CHECKED:
        body |= {
            "s": record.status.value,
            "r": record.reason.value,
            "f": record.fault.value,
            "b": record.since_ms,
            "u": record.fresh_until_ms,
            "n": record.consecutive,
            "x": record.failures,
            "y": record.successes,
            "a": record.authenticated_ms,
            "v": record.verdict and _verdict_out(record.verdict),
            "w": record.raw and _verdict_out(record.raw),
        }
    body = {name: value for name, value in body.items() if value not in (None, 0)}
    return f"{record.head}\n{json.dumps(body, separators=(',', ':'), ensure_ascii=False)}".encode()


def decode(wire: bytes) -> Record:
    """The inverse of `encode`."""
    head, _, text = wire.partition(b"\n")
    revision, _, fence = head.partition(b".")
    body = json.loads(text)
    kind = _KINDS[body["k"]]
    if kind is not Kind.CHECKED:
        return Record(int(revision), int(fence), kind)
    get = body.get
    verdict, raw = get("v"), get("w")
    return Record(
        int(revision),
        int(fence),
        kind,
        _STATUSES[body["s"]],
        _REASONS[body["r"]],
        _FAULTS[body["f"]],
        get("b", 0),
        get("u", 0),
        get("n", 0),
        get("x", 0),
        get("y", 0),
        get("a", 0),
        _verdict_in(verdict) if verdict else None,
        _verdict_in(raw) if raw else None,
    )


def seen(pair: Pair, record: Record, now_ms: int) -> HealthStatus:
    """What a reader is told at `now_ms`. Past `fresh_until_ms` nothing is believed any more."""
    if record.kind is Kind.GONE:
        return absent(pair, Reason.NOT_CONFIGURED, now_ms)
    if record.kind is Kind.WAITING or record.verdict is None:
        return absent(pair, Reason.NOT_CHECKED, now_ms, version=record.fence)
    verdict, stale = record.verdict, now_ms >= record.fresh_until_ms
    status, reason, fault = record.status, record.reason, record.fault
    if stale:
        ours = record.raw is not None and record.raw.fault is Fault.PLATFORM
        reason = record.raw.reason if record.raw and ours else Reason.STALE
        status, fault = Status.UNKNOWN, Fault.PLATFORM
    return HealthStatus(
        connector=pair.connector,
        tenant_id=None if pair.tenant == SYSTEM else pair.tenant,
        status=status,
        reason=reason,
        fault=fault,
        read_ms=now_ms,
        checked_ms=verdict.checked_ms,
        since_ms=record.fresh_until_ms if stale else record.since_ms,
        fresh_until_ms=record.fresh_until_ms,
        checks=verdict.checks,
        error=verdict.error,
        metadata=verdict.metadata,
        version=record.fence,
        latency_ms=verdict.latency_ms,
        consecutive=record.consecutive,
        raw=record.raw,
        credential_expires_ms=verdict.credential_expires_ms,
        quota=verdict.quota,
        advice=None if stale else verdict.action,
        stale=stale,
        last_known=record.status if stale else None,
    )


def seen_alone(pair: Pair, verdict: Verdict, now_ms: int) -> HealthStatus:
    """What one check says by itself, of which nothing is kept; never stale, for it is of this moment."""
    row = REASONS[verdict.reason]
    record = Record(0, 0, Kind.CHECKED, row.status, verdict.reason, verdict.fault, now_ms, now_ms + 1, verdict=verdict)
    return seen(pair, record, now_ms)


def absent(pair: Pair, reason: Reason, now_ms: int, *, version: int = 0, error: str | None = None) -> HealthStatus:
    """A reading without a verdict: ``not_checked``, ``not_configured``, or ``monitor_error`` when Redis is away."""
    return HealthStatus(
        connector=pair.connector,
        tenant_id=None if pair.tenant == SYSTEM else pair.tenant,
        status=Status.UNKNOWN,
        reason=reason,
        fault=Fault.NONE if reason is Reason.NOT_CONFIGURED else Fault.PLATFORM,
        read_ms=now_ms,
        version=version,
        error=error,
    )


# Looking a member up in a dict costs a third of calling the enum, and a tenant's page decodes dozens.
_KINDS = {member.value: member for member in Kind}
_STATUSES = {member.value: member for member in Status}
_REASONS = {member.value: member for member in Reason}
_FAULTS = {member.value: member for member in Fault}
_STEPS = (StepStatus.PASS, StepStatus.WARN, StepStatus.FAIL)


def _verdict_out(verdict: Verdict) -> dict[str, Any]:
    row: dict[str, Any] = {
        "r": verdict.reason.value,
        "f": verdict.fault.value,
        "t": verdict.checked_ms,
        "l": verdict.latency_ms,
        "e": verdict.error,
        "c": [_step_out(step) for step in verdict.checks],
        "m": dict(verdict.metadata),
        "x": verdict.credential_expires_ms,
        "q": verdict.quota and [verdict.quota.limit, verdict.quota.remaining, verdict.quota.resets_ms],
        "a": verdict.action,
    }
    return {name: value for name, value in row.items() if value not in (None, [], {})}


def _verdict_in(row: dict[str, Any]) -> Verdict:
    get = row.get
    quota = get("q")
    return Verdict(
        _REASONS[row["r"]],
        _FAULTS[row["f"]],
        row["t"],
        get("e"),
        tuple([_step_in(step) for step in get("c", ())]),
        get("l", 0.0),
        get("m") or {},
        get("x"),
        Quota(*quota) if quota else None,
        None,
        get("a"),
    )


def _step_out(step: HealthCheck) -> list[object]:
    row: list[object] = [step.name, _STEPS.index(step.status), step.duration_ms]
    if step.error or step.metadata:
        row.append(step.error)
    if step.metadata:
        row.append(dict(step.metadata))
    return row


def _step_in(row: list[Any]) -> HealthCheck:
    error: str | None = row[3] if len(row) > 3 else None
    metadata: Evidence = row[4] if len(row) > 4 else {}
    return HealthCheck(row[0], _STEPS[row[1]], row[2], error, metadata)
