"""The words of health: status, fault, reason, and what a reader is given.

`REASONS` is the closed table every verdict comes from: who must act and whether one check is proof enough.
The values that are kept in Redis are msgspec structs with short wire names: a reader decodes a tenant's whole page in
microseconds. Beside msgspec this module imports nothing but the standard library, so that a reader stays light.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from msgspec import Struct
from msgspec import field as named

Scalar = str | int | float | bool
Evidence = Mapping[str, Scalar]
"""Small facts kept beside a verdict: HTTP status, the vendor's error code, request id. Never a secret."""


class Status(StrEnum):
    """Does it work? ``degraded`` works, but someone should act soon; ``unknown`` means we cannot tell."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class Fault(StrEnum):
    """Who must act. ``platform`` is us, the operators of this monitor."""

    NONE = "none"
    TENANT = "tenant"
    VENDOR = "vendor"
    PLATFORM = "platform"


class StepStatus(StrEnum):
    """The outcome of one named step of a check."""

    PASS = "pass"  # noqa: S105 - the word of DESIGN, not a password
    WARN = "warn"
    FAIL = "fail"


class Reason(StrEnum):
    """Why a verdict is what it is. Closed: nothing outside this list is ever stored or shown."""

    OK = "ok"
    SLOW = "slow"
    RATE_LIMITED = "rate_limited"
    QUOTA_LOW = "quota_low"
    CREDENTIAL_EXPIRING = "credential_expiring"
    CREDENTIAL_EXPIRED = "credential_expired"
    CREDENTIAL_REJECTED = "credential_rejected"
    PERMISSION_DENIED = "permission_denied"
    ACCOUNT_SUSPENDED = "account_suspended"
    MISCONFIGURED = "misconfigured"
    NOT_FOUND = "not_found"
    VENDOR_ERROR = "vendor_error"
    BAD_RESPONSE = "bad_response"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    SECRET_UNAVAILABLE = "secret_unavailable"  # noqa: S105 - a reason's name
    MONITOR_ERROR = "monitor_error"
    NOT_CHECKED = "not_checked"
    STALE = "stale"
    NOT_CONFIGURED = "not_configured"


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """One row of the reason table.

    `definitive` reasons take effect after a single check; `action` is what a person should do when the
    connector itself has no better advice.
    """

    status: Status
    fault: Fault
    definitive: bool
    meaning: str
    action: str


def _row(status: Status, fault: Fault, meaning: str, action: str = "", *, definitive: bool = False) -> ReasonRow:
    return ReasonRow(status, fault, definitive, meaning, action)


_BAD, _WARN, _DARK = Status.UNHEALTHY, Status.DEGRADED, Status.UNKNOWN

REASONS: Mapping[Reason, ReasonRow] = MappingProxyType(
    {
        Reason.OK: _row(Status.HEALTHY, Fault.NONE, "every step passed"),
        Reason.SLOW: _row(
            _WARN,
            Fault.VENDOR,
            "it answers, later than the connector's latency budget",
            "Nothing to do yet: watch the vendor's status page and expect slow requests.",
        ),
        Reason.RATE_LIMITED: _row(
            _WARN,
            Fault.TENANT,
            "the vendor refused the call for its rate; the credential is presumed good",
            "Ask the tenant which other client uses up this credential's rate limit.",
        ),
        Reason.QUOTA_LOW: _row(
            _WARN,
            Fault.TENANT,
            "the remaining quota is under the threshold",
            "Ask the tenant to reduce other use of this credential or to raise its quota.",
        ),
        Reason.CREDENTIAL_EXPIRING: _row(
            _WARN,
            Fault.TENANT,
            "the credential works, but ends soon",
            "Ask the tenant to renew the credential before it expires.",
        ),
        Reason.CREDENTIAL_EXPIRED: _row(
            _BAD,
            Fault.TENANT,
            "the credential's lifetime is over",
            "Ask the tenant to create a new credential and save it here.",
            definitive=True,
        ),
        Reason.CREDENTIAL_REJECTED: _row(
            _BAD,
            Fault.TENANT,
            "the vendor does not accept the credential: revoked, invalid or wrong",
            "Ask the tenant to connect the integration again with a valid credential.",
            definitive=True,
        ),
        Reason.PERMISSION_DENIED: _row(
            _BAD,
            Fault.TENANT,
            "the credential is valid, but may not do what is needed",
            "Ask the tenant to grant the missing permission to this credential.",
            definitive=True,
        ),
        Reason.ACCOUNT_SUSPENDED: _row(
            _BAD,
            Fault.TENANT,
            "the account behind the credential is suspended, inactive or unpaid",
            "Ask the tenant to have the account restored at the vendor.",
            definitive=True,
        ),
        Reason.MISCONFIGURED: _row(
            _BAD,
            Fault.TENANT,
            "the configuration itself cannot work",
            "Correct the configuration as the error says.",
            definitive=True,
        ),
        Reason.NOT_FOUND: _row(
            _BAD,
            Fault.TENANT,
            "what the configuration names does not exist at the vendor",
            "Ask the tenant for the right project, workspace or address.",
            definitive=True,
        ),
        Reason.VENDOR_ERROR: _row(
            _BAD,
            Fault.VENDOR,
            "the vendor answered with its own failure",
            "Nothing for the tenant to do: follow the vendor's status page.",
        ),
        Reason.BAD_RESPONSE: _row(
            _BAD,
            Fault.VENDOR,
            "the answer is not what the vendor documents",
            "Check that the address is the vendor's API, then follow the vendor's status page.",
        ),
        Reason.TIMEOUT: _row(
            _BAD,
            Fault.VENDOR,
            "no complete answer within the check's deadline",
            "Nothing for the tenant to do: follow the vendor's status page.",
        ),
        Reason.UNREACHABLE: _row(
            _BAD,
            Fault.VENDOR,
            "no connection: name not found, refused, or TLS failed",
            "Check the address and the vendor's status page.",
        ),
        Reason.SECRET_UNAVAILABLE: _row(
            _DARK,
            Fault.PLATFORM,
            "our secret or configuration store did not answer",
            "Operators: see whether the secret store is up and this service may read it.",
        ),
        Reason.MONITOR_ERROR: _row(
            _DARK,
            Fault.PLATFORM,
            "a fault or overload of this monitor",
            "Operators: run `connectors doctor` and read the worker's log.",
        ),
        Reason.NOT_CHECKED: _row(
            _DARK,
            Fault.PLATFORM,
            "no check of this configuration has finished yet",
            "Wait for the first check; if none comes, run `connectors doctor`.",
        ),
        Reason.STALE: _row(
            _DARK,
            Fault.PLATFORM,
            "the last verdict is too old to be believed",
            "Operators: checks are not running in time, run `connectors doctor`.",
        ),
        Reason.NOT_CONFIGURED: _row(
            _DARK,
            Fault.NONE,
            "the tenant has no such connector",
            "Configure the connector for this tenant, or do not route to it.",
        ),
    }
)
"""Every reason's row. `Fault` here is the default; evidence may name another (see `status_of`)."""


def status_of(reason: Reason, fault: Fault) -> Status:
    """The status of a verdict. What is our own fault never counts against a connector: it is unknown."""
    return Status.UNKNOWN if fault is Fault.PLATFORM else REASONS[reason].status


class Quota(Struct, frozen=True, array_like=True):
    """What the vendor says is left of this credential's primary quota; `resets_ms` is Unix milliseconds."""

    limit: int
    remaining: int
    resets_ms: int | None = None

    @property
    def resets_at(self) -> str | None:
        """When the quota is full again, RFC 3339, or None when the vendor does not say."""
        return rfc3339(self.resets_ms)


class HealthCheck(Struct, frozen=True, omit_defaults=True):
    """One step of a check: its name, outcome, duration in milliseconds, and error if it did not pass."""

    name: str = named(name="n")
    status: StepStatus = named(name="s", default=StepStatus.PASS)
    duration_ms: float = named(name="d", default=0.0)
    error: str | None = named(name="e", default=None)
    metadata: Evidence = named(name="m", default_factory=dict)


class Verdict(Struct, frozen=True, omit_defaults=True):
    """What one check concludes by itself, before thresholds (the *raw* verdict).

    Times are Unix milliseconds of the shared clock; `retry_after` is in seconds. `revises` takes back what an
    earlier check blamed on the vendor.
    """

    reason: Reason = named(name="r", default=Reason.OK)
    fault: Fault = named(name="f", default=Fault.NONE)
    checked_ms: int = named(name="t", default=0)
    error: str | None = named(name="e", default=None)
    checks: tuple[HealthCheck, ...] = named(name="c", default=())
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
    def timestamp(self) -> str:
        """When the check finished, RFC 3339."""
        return _rfc3339(self.checked_ms)


class HealthStatus(Struct, frozen=True):
    """What a consumer reads: the *effective* verdict of one pair, as it stood at `read_ms`.

    `version` grows with every stored change of this pair; `consecutive` counts checks in a row with the same
    outcome; `raw` is the newest check's own verdict where it differs from the effective one. Fields ending in
    ``_ms`` are Unix milliseconds; the properties beside them give the same moment in RFC 3339.
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
    checks: tuple[HealthCheck, ...] = ()
    error: str | None = None
    metadata: Evidence = {}
    version: int = 0
    latency_ms: float | None = None
    consecutive: int = 0
    raw: Verdict | None = None
    credential_expires_ms: int | None = None
    quota: Quota | None = None
    advice: str | None = None
    stale: bool = False
    last_known: Status | None = None

    @property
    def healthy(self) -> bool:
        """May it be used? True for healthy and degraded."""
        return self.status is Status.HEALTHY or self.status is Status.DEGRADED

    @property
    def action(self) -> str:
        """One sentence a person can follow; empty when there is nothing to do."""
        return self.advice or REASONS[self.reason].action

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


def _rfc3339(milliseconds: int) -> str:
    moment = dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
