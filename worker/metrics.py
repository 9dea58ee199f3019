"""From snapshots to metric families. Names, types and labels are told in ``docs/metrics.md``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from registry.health import HealthStatus, Status
from registry.ids import SYSTEM
from registry.recording import LATENCY_BUCKETS_MS
from worker.snapshot import PlatformSnapshot, ShardSnapshot

_LEVEL = {Status.HEALTHY: 1.0, Status.DEGRADED: 1.0, Status.UNHEALTHY: 0.0, Status.UNKNOWN: -1.0}


class Families(Collector):
    """A collector of families that are there already: one use, one fresh registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families


def fresh_registry(families: Iterable[Metric]) -> CollectorRegistry:
    """A registry holding just `families`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Families(families))
    return registry


def shard_families(snapshot: ShardSnapshot, *, tenants: bool) -> Iterator[Metric]:
    """The families of one shard; without `tenants` only the aggregates."""
    yield from _aggregates(snapshot.statuses)
    if tenants:
        yield from _pairs(snapshot.statuses)
    yield from _checks(snapshot.counters)


def platform_families(snapshot: PlatformSnapshot) -> Iterator[Metric]:
    """The families about the system itself; they belong to no shard."""
    facts = snapshot.facts
    last = GaugeMetricFamily(
        "registry_last_success_timestamp_seconds", "When a periodic task last succeeded.", labels=["task"]
    )
    for task in ("dispatch", "publish", "reconcile", "detect", "status_pages"):
        if f"{task}_ms" in facts:
            last.add_metric([task], facts[f"{task}_ms"] / 1000)
    yield last
    for name, help_text in (
        ("claimed", "Pairs claimed for a check."),
        ("coalesced", "Claims that were late by more than an interval and stand for several turns."),
        ("released", "Claims handed back because the vendor's host had no free place in time."),
        ("batches_lost", "Batches never heard of again; their pairs became due anew."),
    ):
        yield CounterMetricFamily(f"registry_{name}", help_text, value=facts.get(name, 0))
    for name, help_text, values in (
        ("registry_pairs", "Scheduled pairs.", {n: pairs for n, (pairs, _) in snapshot.depth.items()}),
        (
            "registry_pairs_due",
            "Pairs whose check is due and unclaimed.",
            {n: d for n, (_, d) in snapshot.depth.items()},
        ),
        ("registry_batches_in_flight", "Batches sent and not finished.", snapshot.in_flight),
    ):
        yield _by_connector(name, help_text, values)
    incidents = GaugeMetricFamily(
        "registry_incident_tenants",
        "About how many tenants an open incident touches.",
        labels=["kind", "connector", "endpoint", "fault"],
    )
    for incident in snapshot.incidents:
        connector = incident.endpoint.partition("|")[0]
        incidents.add_metric([incident.kind, connector, incident.endpoint, incident.kind.fault], incident.tenants)
    yield incidents
    yield GaugeMetricFamily("registry_check_processes", "Live check processes.", value=snapshot.children)
    yield GaugeMetricFamily(
        "registry_claim_lag_seconds", "How late the latest claims were.", facts.get("lag_ms", 0) / 1000
    )
    yield GaugeMetricFamily(
        "registry_publisher_fence", "Grows with every change of publisher.", value=facts.get("publisher_fence", 0)
    )


def _aggregates(statuses: Iterable[HealthStatus]) -> Iterator[Metric]:
    counts = Counter((s.connector, s.status, s.reason, s.fault) for s in statuses if s.tenant_id is not None)
    family = GaugeMetricFamily(
        "registry_connector_pairs",
        "Pairs of a connector by effective status, reason and fault.",
        labels=["connector", "status", "reason", "fault"],
    )
    for labels, count in counts.items():
        family.add_metric([str(label.value) if isinstance(label, Status) else str(label) for label in labels], count)
    yield family


def _pairs(statuses: Iterable[HealthStatus]) -> Iterator[Metric]:
    pair = ["connector", "tenant_id"]
    health = GaugeMetricFamily(
        "registry_connector_health", "1: usable (healthy or degraded), 0: unhealthy, -1: unknown.", labels=pair
    )
    status = GaugeMetricFamily(
        "registry_connector_status",
        "Always 1; the labels tell the effective verdict.",
        labels=[*pair, "status", "reason", "fault"],
    )
    checked = GaugeMetricFamily(
        "registry_connector_last_check_timestamp_seconds", "When the effective verdict was made.", labels=pair
    )
    expires = GaugeMetricFamily(
        "registry_connector_credential_expiry_timestamp_seconds", "When the credential ends, if known.", labels=pair
    )
    quota = GaugeMetricFamily("registry_connector_quota_remaining_ratio", "Quota left, 0 to 1, if known.", labels=pair)
    for row in statuses:
        labels = [row.connector, row.tenant_id or SYSTEM]
        health.add_metric(labels, _LEVEL[row.status])
        status.add_metric([*labels, row.status.value, row.reason.value, row.fault.value], 1)
        if row.checked_ms is not None:
            checked.add_metric(labels, row.checked_ms / 1000)
        if row.credential_expires_ms is not None:
            expires.add_metric(labels, row.credential_expires_ms / 1000)
        if row.quota is not None and row.quota.limit > 0:
            quota.add_metric(labels, row.quota.remaining / row.quota.limit)
    return iter((health, status, checked, expires, quota))


def _checks(counters: Mapping[str, int]) -> Iterator[Metric]:
    checks = CounterMetricFamily(
        "registry_health_checks", "Finished checks by their own (raw) reason.", labels=["connector", "reason"]
    )
    duration = HistogramMetricFamily(
        "registry_health_check_duration_seconds", "How long checks took.", labels=["connector"]
    )
    for name, count in counters.items():
        kind, connector, *rest = name.split("|")
        if kind == "checks":
            checks.add_metric([connector, *rest], count)
    for connector in sorted({name.split("|")[1] for name in counters if name.startswith("bucket|")}):
        total, buckets = 0, list[tuple[str, float]]()
        for bound in (*map(str, LATENCY_BUCKETS_MS), "inf"):
            total += counters.get(f"bucket|{connector}|{bound}", 0)
            buckets.append(("+Inf" if bound == "inf" else str(int(bound) / 1000), float(total)))
        duration.add_metric([connector], buckets, counters.get(f"sum_ms|{connector}", 0) / 1000)
    return iter((checks, duration))


def _by_connector(name: str, help_text: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=["connector"])
    for connector, value in values.items():
        family.add_metric([connector], value)
    return family
