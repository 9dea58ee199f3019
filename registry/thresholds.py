"""From the raw verdict of one check to the effective one: a pure function.

A definitive reason counts at once, a transient failure only when it repeats, our own failures never: they leave
the effective verdict and its counters alone until it is too old to be believed.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from registry.health import REASONS, Fault, Reason, Status, StepStatus, Verdict
from registry.pace import UNAUTHENTICATED_INTERVALS
from registry.record import Kind, Record


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many transient failures (good checks) in a row turn a pair; `interval_ms` is its usual pace."""

    unhealthy: int = 2
    healthy: int = 1
    interval_ms: int = 60_000


def advance(previous: Record | None, raw: Verdict, rules: Thresholds, *, revision: int, fence: int) -> Record:
    """The record after one more check.

    `previous` is what the cache holds (None: nothing). ``fresh_until_ms`` is kept from it: extending a verdict's
    life is the schedule's decision (`registry.pace`), and none of ours to make for a check that failed by our fault.
    """
    if previous is None or previous.kind is not Kind.CHECKED:
        return _first(raw, revision=revision, fence=fence)
    seen_to_work = previous.last_authenticated_ms
    stamped = replace(previous, revision=revision, fence=fence, authenticated_ms=seen_to_work)
    if raw.status is Status.UNKNOWN:
        return _unknown(stamped, raw)
    counted = _count(stamped, raw)
    if not _takes_effect(counted, raw, rules):
        return replace(counted, raw=raw)
    return _effective(counted, raw, rules)


def _first(raw: Verdict, *, revision: int, fence: int) -> Record:
    """The first check of a configuration takes effect at once, whatever it says."""
    empty = Record(revision, fence, Kind.CHECKED, since_ms=raw.checked_ms, authenticated_ms=raw.checked_ms)
    counted = empty if raw.status is Status.UNKNOWN else _count(empty, raw)
    return replace(counted, status=raw.status, reason=raw.reason, fault=raw.fault, verdict=raw)


def _unknown(record: Record, raw: Verdict) -> Record:
    taken_back = raw.revises and record.status is Status.UNHEALTHY and record.fault is Fault.VENDOR
    if raw.checked_ms < record.fresh_until_ms and not taken_back:
        return replace(record, raw=raw)
    return _turned(record, raw, raw.status)


def _count(record: Record, raw: Verdict) -> Record:
    before = record.newest
    same = before is not None and before.reason is raw.reason
    usable = raw.status is not Status.UNHEALTHY
    transient = not usable and not REASONS[raw.reason].definitive
    return replace(
        record,
        consecutive=record.consecutive + 1 if same else 1,
        failures=record.failures + 1 if transient else 0,
        successes=record.successes + 1 if usable else 0,
        authenticated_ms=raw.checked_ms if _authenticated(raw) else record.last_authenticated_ms,
    )


def _takes_effect(record: Record, raw: Verdict, rules: Thresholds) -> bool:
    if record.status is Status.UNKNOWN:
        return True
    if raw.status is Status.UNHEALTHY:
        return REASONS[raw.reason].definitive or record.failures >= rules.unhealthy
    return record.status is not Status.UNHEALTHY or record.successes >= rules.healthy


def _effective(record: Record, raw: Verdict, rules: Thresholds) -> Record:
    status = raw.status
    silent_ms = raw.checked_ms - record.last_authenticated_ms
    if raw.reason is Reason.RATE_LIMITED and silent_ms > UNAUTHENTICATED_INTERVALS * rules.interval_ms:
        status = Status.UNKNOWN
    return _turned(record, raw, status)


def _turned(record: Record, raw: Verdict, status: Status) -> Record:
    same = status is record.status and raw.reason is record.reason
    since_ms = record.since_ms if same else raw.checked_ms
    return replace(record, status=status, reason=raw.reason, fault=raw.fault, since_ms=since_ms, verdict=raw, raw=None)


def _authenticated(raw: Verdict) -> bool:
    """Did the vendor accept the credential in this check?"""
    if raw.status is Status.HEALTHY:
        return True
    return any(
        step == "auth" if isinstance(step, str) else step.name == "auth" and step.status is not StepStatus.FAIL
        for step in raw.steps
    )
