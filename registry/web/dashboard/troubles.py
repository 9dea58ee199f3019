"""What is wrong, by cause: of a million pairs nobody reads a list, but their causes are few."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from registry.catalog import Catalog
from registry.errors import ConnectorError
from registry.health import REASONS, Fault, Reason, Status, status_of
from registry.survey import Survey, Trouble
from registry.web.dashboard.words import RANKED

NAMED = 3
"""Tenants of a cause that are named on the overview."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Pairs of one connector that are in trouble for one reason by one party's fault.

    `since_ms` is when the longest of those that are listed began; `tenants` are these, the newest trouble first.
    """

    connector: str
    status: Status
    reason: Reason
    fault: Fault
    count: int
    since_ms: int | None
    newest_ms: int | None
    tenants: Sequence[Trouble]
    action: str


@dataclass(frozen=True, slots=True)
class Summary:
    """All at a glance: pairs by status, those in trouble by who must act, and tenants with a pair that is unhealthy."""

    counts: Mapping[Status, int]
    faults: Mapping[Fault, int]
    pairs: int
    tenants: int
    broken: int

    @property
    def troubled(self) -> int:
        """Pairs that are not healthy."""
        return self.pairs - self.counts[Status.HEALTHY]


def causes(survey: Survey, catalog: Catalog, connectors: Iterable[str] | None = None) -> list[Cause]:
    """Every cause of trouble, the worst and the most common first."""
    found: list[Cause] = []
    for name in connectors if connectors is not None else survey.connectors:
        listed = survey.troubles.get(name, ())
        for (why, fault), count in survey.reasons.get(name, {}).items():
            if why is Reason.OK or not count:
                continue
            same = [trouble for trouble in listed if (trouble.reason, trouble.fault) == (why, fault)]
            same.sort(key=lambda trouble: -(trouble.since_ms or 0))
            since = [trouble.since_ms for trouble in same if trouble.since_ms is not None]
            status = same[0].status if same else status_of(why, fault)
            found.append(
                Cause(
                    connector=name,
                    status=status,
                    reason=why,
                    fault=fault,
                    count=count,
                    since_ms=min(since, default=None),
                    newest_ms=max(since, default=None),
                    tenants=same,
                    action=advice(catalog, name, why),
                )
            )
    return sorted(found, key=lambda cause: (RANKED.index(cause.status), -cause.count, cause.connector))


def advice(catalog: Catalog, connector: str, why: Reason) -> str:
    """What to do about a reason: the connector's own sentence, else the table's."""
    try:
        actions = getattr(catalog.load(connector).factory, "actions", {})
    except ConnectorError:
        actions = {}
    return str(actions.get(why) or REASONS[why].action)


def summary(survey: Survey) -> Summary:
    """Sums over everything."""
    counts = dict.fromkeys(Status, 0)
    for by_status in survey.counts.values():
        for status, count in by_status.items():
            counts[status] += count
    faults = dict.fromkeys(Fault, 0)
    for by_reason in survey.reasons.values():
        for (why, fault), count in by_reason.items():
            if why is not Reason.OK:
                faults[fault] += count
    broken = sum(1 for row in survey.rows.values() if "x" in row)
    return Summary(counts, faults, survey.pairs, len(survey.tenants), broken)
