"""Every metric family: its name, type, labels, what it means, and how many series it makes.

``docs/metrics.md`` is written from this table, and `worker.metrics` takes its families from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily


@dataclass(frozen=True, slots=True)
class Family:
    """One family, named as it is exposed; `series` tells how many there are of it."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    series: str


EXPIRY_WITHIN_DAYS = 60
"""So near the end of a credential must be to have a series of its own: long before the first alert."""

QUOTA_UNDER = 0.5
"""So little quota must be left to have a series of its own: long before the alert."""

_PAIR = ("connector", "tenant_id")
_A_PAIR = 'pairs, and the vendors\' own endpoints (`tenant_id="*"`); none with `METRICS_TENANTS=off`'

_TABLE = (
    Family(
        "registry_connector_health",
        "gauge",
        _PAIR,
        "1: usable (healthy or degraded), 0: unhealthy, -1: unknown.",
        _A_PAIR,
    ),
    Family(
        "registry_connector_status",
        "gauge",
        (*_PAIR, "status", "reason", "fault"),
        "Always 1; the labels tell the effective verdict, unless it is healthy: of whom there is none, is `ok`.",
        "pairs that are not healthy",
    ),
    Family(
        "registry_connector_credential_expiry_timestamp_seconds",
        "gauge",
        _PAIR,
        f"When the credential ends, if that is known and within {EXPIRY_WITHIN_DAYS} days.",
        "pairs whose credential ends soon",
    ),
    Family(
        "registry_connector_quota_remaining_ratio",
        "gauge",
        _PAIR,
        f"Quota left, 0 to 1, if that is known and under {QUOTA_UNDER:g}.",
        "pairs that have used up much",
    ),
    Family(
        "registry_connector_maintenance",
        "gauge",
        _PAIR,
        'Always 1, while a maintenance window covers the pair; `tenant_id="*"`: the whole connector.',
        "pairs in maintenance",
    ),
    Family(
        "registry_connector_pairs",
        "gauge",
        ("connector", "status", "reason", "fault"),
        "Pairs of a connector by effective status, reason and fault.",
        "connectors × verdicts that occur, in every group",
    ),
    Family(
        "registry_connector_oldest_check_timestamp_seconds",
        "gauge",
        ("connector",),
        "When the oldest of the connector's effective verdicts was made.",
        "connectors, in every group",
    ),
    Family(
        "registry_connector_newest_check_timestamp_seconds",
        "gauge",
        ("connector",),
        "When the newest of the connector's effective verdicts was made.",
        "connectors, in every group",
    ),
    Family(
        "registry_health_checks_total",
        "counter",
        ("connector", "reason"),
        "Finished checks by their own (raw) reason.",
        "connectors × reasons that occurred, in every group",
    ),
    Family(
        "registry_health_check_duration_seconds",
        "histogram",
        ("connector",),
        "How long checks took.",
        "connectors × 12, in every group",
    ),
    Family(
        "registry_transitions_total",
        "counter",
        ("connector", "status"),
        "Changes of effective status or reason, by the status they led to.",
        "connectors × 4, in every group",
    ),
    Family(
        "registry_last_success_timestamp_seconds",
        "gauge",
        ("task",),
        "When a periodic task last succeeded.",
        "8",
    ),
    Family("registry_task_interval_seconds", "gauge", ("task",), "Seconds between two turns of a periodic task.", "8"),
    Family("registry_claimed_total", "counter", (), "Pairs claimed for a check.", "1"),
    Family(
        "registry_coalesced_total",
        "counter",
        (),
        "Claims that were late by more than an interval and stand for several turns.",
        "1",
    ),
    Family(
        "registry_put_off_total",
        "counter",
        (),
        "Claims put off because a budget of checks was used up.",
        "1",
    ),
    Family(
        "registry_released_total",
        "counter",
        (),
        "Claims handed back because the vendor's host had no free place in time.",
        "1",
    ),
    Family(
        "registry_held_back_total",
        "counter",
        (),
        "Due pairs that a tick left unclaimed, because the workers have no room; counted anew at each tick.",
        "1",
    ),
    Family(
        "registry_work_in_flight_seconds",
        "gauge",
        ("connector",),
        "Seconds of one worker that the batches in flight still take, as measured.",
        "connectors",
    ),
    Family("registry_work_limit_seconds", "gauge", (), "So much work may be in flight; beyond it claims wait.", "1"),
    Family(
        "registry_batches_lost_total",
        "counter",
        (),
        "Batches never heard of again; their pairs became due anew.",
        "1",
    ),
    Family(
        "registry_batches_expired_total",
        "counter",
        (),
        "Batches that waited for a worker until they expired; their pairs became due anew.",
        "1",
    ),
    Family(
        "registry_check_lag_seconds",
        "histogram",
        ("stage",),
        "How long checks waited: `schedule` due to claimed, `queue` claimed to started, `check` started to finished.",
        "48",
    ),
    Family("registry_loop_lag_seconds", "histogram", (), "How late the workers' event loops turned.", "16"),
    Family("registry_queue_depth", "gauge", ("queue",), "Messages that wait for a worker.", "3"),
    Family("registry_checks_in_flight", "gauge", (), "Checks that run now, in all live check processes.", "1"),
    Family("registry_pairs", "gauge", ("connector",), "Scheduled pairs.", "connectors"),
    Family("registry_pairs_due", "gauge", ("connector",), "Pairs whose check is due and unclaimed.", "connectors"),
    Family("registry_batches_in_flight", "gauge", ("connector",), "Batches sent and not finished.", "connectors"),
    Family(
        "registry_incident_tenants",
        "gauge",
        ("kind", "connector", "endpoint", "fault"),
        "About how many tenants an open incident touches.",
        "open incidents",
    ),
    Family(
        "registry_webhook_behind_seconds",
        "gauge",
        ("webhook",),
        "Age of the oldest message that a webhook is not done with; 0: none waits.",
        "webhooks",
    ),
    Family(
        "registry_webhook_messages_total",
        "counter",
        ("webhook", "outcome"),
        "Attempts to deliver that were `delivered` or `failed`, and messages given up as `dead`.",
        "webhooks × 3",
    ),
    Family(
        "registry_transitions_lost_total",
        "counter",
        (),
        "Times that transitions were cut off, or unreadable, before the webhooks' side or the audit log had them.",
        "1",
    ),
    Family(
        "registry_pushes_total",
        "counter",
        ("outcome",),
        "Groups pushed: `done`, `refused` by the Pushgateway for what they hold, `failed`: it did not take them.",
        "3",
    ),
    Family("registry_check_processes", "gauge", (), "Live check processes.", "1"),
    Family("registry_claim_lag_seconds", "gauge", (), "How late the latest claims were.", "1"),
    Family("registry_publisher_fence", "gauge", (), "Grows with every change of publisher.", "1"),
    Family("registry_push_groups", "gauge", (), "Groups that pairs are pushed in, beside the system's own.", "1"),
)

FAMILIES: Mapping[str, Family] = {family.name: family for family in _TABLE}
"""By name, in the order of the page."""


def gauge(name: str) -> GaugeMetricFamily:
    """A gauge of the table, without samples."""
    return GaugeMetricFamily(name, FAMILIES[name].meaning, labels=FAMILIES[name].labels)


def counter(name: str) -> CounterMetricFamily:
    """A counter of the table, without samples; `name` ends in ``_total``."""
    return CounterMetricFamily(name, FAMILIES[name].meaning, labels=FAMILIES[name].labels)


def histogram(name: str) -> HistogramMetricFamily:
    """A histogram of the table, without samples."""
    return HistogramMetricFamily(name, FAMILIES[name].meaning, labels=FAMILIES[name].labels)
