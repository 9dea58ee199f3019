"""The words of health: status, fault and reason, and the closed table every verdict comes from.

`REASONS` says of each reason who must act and whether one check is proof enough. Nothing but the standard library is
imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


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
