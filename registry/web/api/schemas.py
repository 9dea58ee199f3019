"""What the API answers, as models: for OpenAPI, and for tests that compare. Answers are made by ``as_dict`` itself.

Times are RFC 3339 in UTC, ages and durations seconds, fields ending in ``_ms`` milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from registry.health import Fault, Reason, Status, StepStatus
from registry.roles import Right, Role

Time = Annotated[str, Field(description="RFC 3339, UTC", examples=["2026-11-28T10:00:00.000Z"])]
Facts = dict[str, str | int | float | bool]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


Wrong = Annotated[list[dict[Literal["field", "message"], str]], Field(description="With `invalid_request`.")]


class ProblemDetails(_Answer):
    """A problem document (RFC 9457); `code` is a stable word for programs."""

    type: Literal["about:blank"]
    title: str
    status: int
    code: str
    detail: str
    errors: Wrong | SkipJsonSchema[None] = None


class Step(_Answer):
    """One step of a check."""

    name: str
    status: StepStatus
    duration_ms: float
    error: str | None
    metadata: Facts


class QuotaLeft(_Answer):
    """What is left of the credential's primary quota."""

    limit: int
    remaining: int
    resets_at: Time | None


class RawVerdict(_Answer):
    """The newest check's own verdict, where thresholds have not let it take effect."""

    status: Status
    reason: Reason
    fault: Fault
    timestamp: Time
    error: str | None


class Verdict(_Answer):
    """The effective verdict of one pair."""

    healthy: Annotated[bool, Field(description="May it be used? True for healthy and degraded.")]
    status: Status
    reason: Reason
    fault: Annotated[Fault, Field(description="Who must act.")]
    connector: str
    tenant_id: Annotated[str | None, Field(description="null: the service check, which belongs to no tenant.")]
    timestamp: Time
    since: Time | None
    age: Annotated[float | None, Field(description="Seconds since the check.")]
    fresh_until: Time | None
    stale: bool
    last_known: Status | None
    put_off_until: Time | None
    maintenance_until: Time | None
    version: int
    latency_ms: float | None
    consecutive: int
    error: str | None
    action: Annotated[str, Field(description="One sentence a person can follow.")]
    checks: list[Step]
    metadata: Facts
    credential_expires_at: Time | None
    quota: QuotaLeft | None
    raw: RawVerdict | None


class Overall(_Answer):
    """The verdicts of all connectors in one scope, and how many are in which state."""

    healthy: Annotated[bool, Field(description="Are all configured connectors usable?")]
    tenant_id: str | None
    counts: dict[Status, int]
    connectors: dict[str, Verdict]


class VerdictPage(_Answer):
    """Verdicts in the order of tenants; `after` asks for the next page, null: this was the last."""

    items: list[Verdict]
    after: str | None


class TenantRow(_Answer):
    """One tenant: how many of its connectors are in which state."""

    id: str
    counts: dict[Status, int]
    connectors: list[str]


class TenantPage(_Answer):
    """Tenants in the order of their ids; `after` asks for the next page, null: this was the last."""

    items: list[TenantRow]
    after: str | None


class Connector(_Answer):
    """A registered connector, and the service check of its own address."""

    name: str
    version: str | None
    title: str | None
    maturity: str | None
    usable: Annotated[bool, Field(description="Could its code be loaded here?")]
    error: str | None
    service: Verdict


class ConnectorList(_Answer):
    """All registered connectors."""

    items: list[Connector]


class Manifest(_Answer):
    """A connector's manifest, and the JSON Schema of its configurations."""

    manifest: dict[str, Any]
    config_schema: dict[str, Any]


class Seconds(_Answer):
    """Seconds in each state."""

    healthy: int
    degraded: int
    unhealthy: int
    unknown: int
    maintenance: int


class Window(_Answer):
    """What a pair has been like from `from` on."""

    from_: Annotated[Time, Field(alias="from")]
    uptime_percent: float | None
    seconds: Seconds


class Latency(_Answer):
    """Milliseconds of the usable checks of today and yesterday."""

    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Turn(_Answer):
    """What a pair turned to, and when."""

    at: Time
    status: Status
    reason: Reason
    fault: Fault


class History(_Answer):
    """What a pair has been like."""

    connector: str
    tenant_id: str | None
    timestamp: Time
    since: Time | None
    windows: Annotated[dict[Literal["24h", "7d", "30d"], Window], Field(description="Until now.")]
    latency: Latency
    transitions: list[Turn]


class Incident(_Answer):
    """One cause seen on many pairs."""

    id: str
    kind: str
    endpoint: str
    connector: str
    fault: Fault
    started: Time
    started_ms: int
    seen: Time
    seen_ms: int
    tenants: Annotated[int, Field(description="About how many tenants see it.")]
    explanation: str
    confirmed: bool


class IncidentList(_Answer):
    """The incidents that are open now, the oldest first."""

    items: list[Incident]


class IncidentEntry(_Answer):
    """An incident was opened or closed."""

    position: str
    at: Time
    change: Literal["opened", "closed"]
    incident: Incident


class IncidentLog(_Answer):
    """What was opened and closed, the newest first; `before` asks for what came before, null: that was all."""

    items: list[IncidentEntry]
    before: str | None


class Maintenance(_Answer):
    """A maintenance window; null means every connector, or every tenant."""

    id: str
    connector: str | None
    tenant: str | None
    starts: Time
    ends: Time
    note: str


class MaintenanceList(_Answer):
    """The windows that are not over, by their beginning."""

    items: list[Maintenance]


class Configuration(_Answer):
    """A stored configuration. Secrets are references; a sealed one is shown as ``enc://kept``, never its content."""

    tenant_id: str
    connector: str
    revision: int
    actor: str
    updated_at: Time
    config: dict[str, Any]


class RevisionRow(_Answer):
    """One write of a configuration."""

    revision: int
    actor: str
    updated_at: Time
    deleted: bool


class RevisionList(_Answer):
    """The last revisions of a configuration, the newest first."""

    items: list[RevisionRow]


class AuditPage(_Answer):
    """Audit records in their order."""

    items: list[dict[str, Any]]


class Myself(_Answer):
    """Whose token this is, and what it may do."""

    id: str
    role: Role
    tenant: str | None
    rights: list[Right]


class Alive(_Answer):
    """The process answers."""

    alive: Literal[True]


class Ready(_Answer):
    """Can the process do its work?"""

    ready: bool
    redis: bool
    tokens: Annotated[bool, Field(description="Is it known which tokens there are?")]


class TransitionOut(_Answer):
    """A pair's effective status or reason changed."""

    connector: str
    tenant_id: str | None
    from_: Annotated[dict[str, str] | None, Field(alias="from")]
    status: Status
    reason: Reason
    fault: Fault
    healthy: bool
    at: Time
    version: int


class TransitionPoll(_Answer):
    """What happened after `after`. After a `gap` something may have been missed: read the verdicts anew."""

    items: list[TransitionOut]
    gap: bool
    after: Annotated[str | None, Field(description="Where to go on; null: ask without `after`.")]
