"""What a check concludes and what a reader is given. The words they use are in `registry.reasons`.

The values that are kept in Redis are msgspec structs with short wire names: a reader decodes a tenant's whole page in
microseconds; they hold no cycles, so the garbage collector need not look at them. Beside msgspec nothing but the
standard library is imported here, so that a reader stays light.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from msgspec import DecodeError, Struct
from msgspec import field as named
from msgspec.json import Decoder

from registry.reasons import REASONS, Fault, Reason, ReasonRow, Status, StepStatus, status_of

__all__ = [
    "REASONS",
    "Details",
    "Evidence",
    "Fault",
    "HealthCheck",
    "HealthStatus",
    "Quota",
    "Reason",
    "ReasonRow",
    "Scalar",
    "Status",
    "StepStatus",
    "Verdict",
    "moment",
    "rfc3339",
    "status_of",
]

_FIRST, _LAST = -62_135_596_800, 253_402_300_799
"""The first and the last second of the calendar: those of the years 1 and 9999."""

Scalar = str | int | float | bool
Evidence = Mapping[str, Scalar]
"""Small facts kept beside a verdict: HTTP status, the vendor's error code, request id. Never a secret."""


class Quota(Struct, frozen=True, gc=False, array_like=True):
    """What the vendor says is left of this credential's primary quota; `resets_ms` is Unix milliseconds."""

    limit: int
    remaining: int
    resets_ms: int | None = None

    @property
    def resets_at(self) -> str | None:
        """When the quota is full again, RFC 3339, or None when the vendor does not say."""
        return rfc3339(self.resets_ms)


class HealthCheck(Struct, frozen=True, gc=False, omit_defaults=True):
    """One step of a check: its name, outcome, duration in milliseconds, and error if it did not pass."""

    name: str = named(name="n")
    status: StepStatus = named(name="s", default=StepStatus.PASS)
    duration_ms: float = named(name="d", default=0.0)
    error: str | None = named(name="e", default=None)
    metadata: Evidence = named(name="m", default_factory=dict)


class Verdict(Struct, frozen=True, gc=False, omit_defaults=True):
    """What one check concludes by itself, before thresholds (the *raw* verdict).

    Times are Unix milliseconds of the shared clock; `retry_after` is in seconds. `revises` takes back what an
    earlier check blamed on the vendor.
    """

    reason: Reason = named(name="r", default=Reason.OK)
    fault: Fault = named(name="f", default=Fault.NONE)
    checked_ms: int = named(name="t", default=0)
    error: str | None = named(name="e", default=None)
    steps: tuple[HealthCheck | str, ...] = named(name="c", default=())
    latency_ms: float = named(name="l", default=0.0)
    metadata: Evidence = named(name="m", default_factory=dict)
    credential_expires_ms: int | None = named(name="x", default=None)
    quota: Quota | None = named(name="q", default=None)
    retry_after: float | None = named(name="ra", default=None)
    action: str | None = named(name="a", default=None)
    revises: bool = named(name="rv", default=False)

    @property
    def status(self) -> Status:
        """See `status_of`."""
        return status_of(self.reason, self.fault)

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """The steps. One that passed in no time is kept as its name alone: most steps of most pairs are like that."""
        return tuple([HealthCheck(step) if isinstance(step, str) else step for step in self.steps])

    @property
    def timestamp(self) -> str:
        """When the check finished, RFC 3339."""
        return _rfc3339(self.checked_ms)


class Details(Struct, frozen=True, gc=False):
    """What lies behind a status: the check it rests on, and the newest check's own verdict where that is another.

    `maintenance_ms` is until when failures were announced beforehand (0: they were not). `error` says why there is no
    check. The names of the others are those of `registry.record.Record`.
    """

    verdict: Verdict | None = named(name="v", default=None)
    raw: Verdict | None = named(name="w", default=None)
    maintenance_ms: int = named(name="mt", default=0)
    error: str | None = None


_details = Decoder(Details).decode
_USABLE = (Status.HEALTHY, Status.DEGRADED)


class HealthStatus(Struct, frozen=True, gc=False):
    """What a consumer reads: the *effective* verdict of one pair, as it stood at `read_ms`.

    `version` grows with every stored change of this pair; `consecutive` counts checks in a row with the same
    outcome. `put_off_until_ms` answers who asked for a check while a budget was used up. `kept` is what was read; the
    `details` are made from it when somebody asks for them, for most of a page is never looked at closely. Fields ending
    in ``_ms`` are Unix milliseconds; the properties beside them give the same moment in RFC 3339.
    """

    connector: str
    tenant_id: str | None
    status: Status
    reason: Reason
    fault: Fault
    read_ms: int
    checked_ms: int | None = None
    since_ms: int | None = None
    fresh_until_ms: int | None = None
    version: int = 0
    consecutive: int = 0
    stale: bool = False
    last_known: Status | None = None
    kept: bytes | Details = Details()
    put_off_until_ms: int | None = None

    def __repr__(self) -> str:
        scope = self.tenant_id or "everybody"
        return f"<{self.connector} of {scope}: {self.status.value}, {self.reason.value}, fault {self.fault.value}>"

    @property
    def details(self) -> Details:
        """The checks behind this status; empty where another version wrote what this one cannot read."""
        if isinstance(self.kept, Details):
            return self.kept
        try:
            return _details(self.kept)
        except DecodeError:
            return Details()

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """The steps of the check."""
        verdict = self.details.verdict
        return verdict.checks if verdict else ()

    @property
    def error(self) -> str | None:
        """What went wrong, in the vendor's or our own words."""
        details = self.details
        return details.verdict.error if details.verdict else details.error

    @property
    def metadata(self) -> Evidence:
        """Small facts that the check found."""
        verdict = self.details.verdict
        return verdict.metadata if verdict else {}

    @property
    def latency_ms(self) -> float | None:
        """How long the vendor took, in milliseconds."""
        verdict = self.details.verdict
        return verdict.latency_ms if verdict else None

    @property
    def raw(self) -> Verdict | None:
        """The newest check's own verdict, where it differs from the effective one."""
        return self.details.raw

    @property
    def credential_expires_ms(self) -> int | None:
        """When the credential ends; None when unknown or never."""
        verdict = self.details.verdict
        return verdict.credential_expires_ms if verdict else None

    @property
    def quota(self) -> Quota | None:
        """What is left of the credential's primary quota, if the vendor says so."""
        verdict = self.details.verdict
        return verdict.quota if verdict else None

    @property
    def maintenance_until_ms(self) -> int | None:
        """Until when it is in maintenance: nobody is alerted, and the time counts in no uptime. None: it is not."""
        until_ms = self.details.maintenance_ms
        return until_ms if until_ms > self.read_ms else None

    @property
    def healthy(self) -> bool:
        """May it be used? True for healthy and degraded."""
        return self.status in _USABLE

    @property
    def action(self) -> str:
        """One sentence a person can follow; empty when there is nothing to do."""
        verdict = None if self.stale else self.details.verdict
        return (verdict and verdict.action) or REASONS[self.reason].action

    @property
    def age(self) -> float | None:
        """Seconds between the check and this read; None when nothing was checked."""
        return None if self.checked_ms is None else max(0.0, (self.read_ms - self.checked_ms) / 1000)

    @property
    def timestamp(self) -> str:
        """When the verdict was made (or, without one, when it was looked for), RFC 3339."""
        return _rfc3339(self.read_ms if self.checked_ms is None else self.checked_ms)

    @property
    def since(self) -> str | None:
        """Since when status and reason are what they are, RFC 3339."""
        return rfc3339(self.since_ms)

    @property
    def fresh_until(self) -> str | None:
        """Until when this verdict may be believed, RFC 3339."""
        return rfc3339(self.fresh_until_ms)

    @property
    def put_off_until(self) -> str | None:
        """When the budget has room for the check that was asked for, RFC 3339; None: it was made, or nobody asked."""
        return rfc3339(self.put_off_until_ms)

    @property
    def maintenance_until(self) -> str | None:
        """Until when it is in maintenance, RFC 3339; None: it is not."""
        return rfc3339(self.maintenance_until_ms)

    @property
    def credential_expires_at(self) -> str | None:
        """When the credential ends, RFC 3339, or None when unknown or never."""
        return rfc3339(self.credential_expires_ms)

    def as_dict(self) -> dict[str, object]:
        """The public JSON form, with RFC 3339 times; stable, used by the CLI and the API."""
        return {
            "healthy": self.healthy,
            "status": self.status.value,
            "reason": self.reason.value,
            "fault": self.fault.value,
            "connector": self.connector,
            "tenant_id": self.tenant_id,
            "timestamp": self.timestamp,
            "since": self.since,
            "age": None if self.age is None else round(self.age, 3),
            "fresh_until": self.fresh_until,
            "stale": self.stale,
            "last_known": self.last_known.value if self.last_known else None,
            "put_off_until": self.put_off_until,
            "maintenance_until": self.maintenance_until,
            "version": self.version,
            "latency_ms": self.latency_ms,
            "consecutive": self.consecutive,
            "error": self.error,
            "action": self.action,
            "checks": [_step_dict(step) for step in self.checks],
            "metadata": dict(self.metadata),
            "credential_expires_at": self.credential_expires_at,
            "quota": self.quota
            and {"limit": self.quota.limit, "remaining": self.quota.remaining, "resets_at": self.quota.resets_at},
            "raw": self.raw and _raw_dict(self.raw),
        }


def rfc3339(milliseconds: int | None) -> str | None:
    """Unix milliseconds as RFC 3339 in UTC, or None for None."""
    return None if milliseconds is None else _rfc3339(milliseconds)


def moment(milliseconds: int) -> dt.datetime:
    """Unix milliseconds as a time in UTC; what is beyond the calendar, as its first or last second.

    >>> moment(0).year, moment(-(10**15)).year, moment(10**18).year
    (1970, 1, 9999)
    """
    return dt.datetime.fromtimestamp(min(max(milliseconds / 1000, _FIRST), _LAST), dt.UTC)


def _rfc3339(milliseconds: int) -> str:
    return moment(milliseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _step_dict(step: HealthCheck) -> dict[str, object]:
    return {
        "name": step.name,
        "status": step.status.value,
        "duration_ms": step.duration_ms,
        "error": step.error,
        "metadata": dict(step.metadata),
    }


def _raw_dict(raw: Verdict) -> dict[str, object]:
    return {
        "status": raw.status.value,
        "reason": raw.reason.value,
        "fault": raw.fault.value,
        "timestamp": raw.timestamp,
        "error": raw.error,
    }
