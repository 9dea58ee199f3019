"""From snapshots to metric families. What each is called and means is told in `worker.families`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from registry.counting import LATENCY_BUCKETS_MS
from registry.health import HealthStatus, Status
from registry.ids import SYSTEM, Pair
from worker.families import EXPIRY_WITHIN_DAYS, QUOTA_UNDER, counter, gauge, histogram
from worker.labels import TenantLabel
from worker.lags import LOOP, STAGES, buckets
from worker.snapshot import PlatformSnapshot, ShardSnapshot

_LEVEL = {Status.HEALTHY: 1.0, Status.DEGRADED: 1.0, Status.UNHEALTHY: 0.0, Status.UNKNOWN: -1.0}

_EXPIRY_WITHIN_MS = EXPIRY_WITHIN_DAYS * 86_400_000

PUSH_OUTCOMES = ("done", "refused", "failed")
"""What becomes of a group that is pushed."""


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


@dataclass(slots=True)
class Totals:
    """What is told of connectors, not of pairs: summed up over the shards that are added."""

    verdicts: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    oldest_ms: dict[str, int] = field(default_factory=dict)
    newest_ms: dict[str, int] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)

    def add(self, snapshot: ShardSnapshot) -> None:
        """Add one shard."""
        self.counters.update(snapshot.counters)
        for row in snapshot.statuses:
            if row.tenant_id is None:
                continue
            name = row.connector
            self.verdicts[name, row.status.value, row.reason.value, row.fault.value] += 1
            if row.checked_ms is not None:
                self.oldest_ms[name] = min(row.checked_ms, self.oldest_ms.get(name, row.checked_ms))
                self.newest_ms[name] = max(row.checked_ms, self.newest_ms.get(name, row.checked_ms))


def shard_families(snapshot: ShardSnapshot, label: TenantLabel | None = str) -> Iterator[Metric]:
    """All families of what one snapshot holds. `label`: see `pair_families`."""
    totals = Totals()
    totals.add(snapshot)
    yield from pair_families(snapshot, label)
    yield from total_families(totals)


def pair_families(snapshot: ShardSnapshot, label: TenantLabel | None = str) -> Iterator[Metric]:
    """The families that have series of pairs. `label` is what a tenant is called in them; None: no tenant is."""
    if label:
        yield pair_health(snapshot.statuses, label)
        yield from _remarkable(snapshot.statuses, label)
    yield _maintenance(snapshot.maintenance, label)


def total_families(totals: Totals) -> Iterator[Metric]:
    """The families that have series of connectors."""
    pairs = gauge("registry_connector_pairs")
    for verdict, number in totals.verdicts.items():
        pairs.add_metric(verdict, number)
    yield pairs
    for name, times in (("oldest", totals.oldest_ms), ("newest", totals.newest_ms)):
        seconds = {connector: time / 1000 for connector, time in times.items()}
        yield _by_connector(f"registry_connector_{name}_check_timestamp_seconds", seconds)
    yield from _checks(totals.counters)


def platform_families(snapshot: PlatformSnapshot) -> Iterator[Metric]:
    """The families about the system itself; they belong to no shard."""
    facts = snapshot.facts
    last, paces = gauge("registry_last_success_timestamp_seconds"), gauge("registry_task_interval_seconds")
    for task, every in snapshot.paces.items():
        paces.add_metric([task], every)
        if f"{task}_ms" in facts:
            last.add_metric([task], facts[f"{task}_ms"] / 1000)
    yield from (last, paces)
    yield from _lags(facts)
    for name in ("claimed", "coalesced", "released", "put_off", "held_back", "batches_lost", "batches_expired"):
        total = counter(f"registry_{name}_total")
        total.add_metric([], facts.get(name, 0))
        yield total
    for name, values in (
        ("registry_pairs", {n: pairs for n, (pairs, _) in snapshot.depth.items()}),
        ("registry_pairs_due", {n: due for n, (_, due) in snapshot.depth.items()}),
        ("registry_batches_in_flight", snapshot.in_flight),
        ("registry_work_in_flight_seconds", snapshot.work),
    ):
        yield _by_connector(name, values)
    waiting = gauge("registry_queue_depth")
    for queue, length in snapshot.queues.items():
        waiting.add_metric([queue], length)
    yield waiting
    incidents = gauge("registry_incident_tenants")
    for incident in snapshot.incidents:
        connector = incident.endpoint.partition("|")[0]
        incidents.add_metric([incident.kind, connector, incident.endpoint, incident.kind.fault], incident.tenants)
    yield incidents
    yield from _webhooks(snapshot)
    pushes = counter("registry_pushes_total")
    for outcome in PUSH_OUTCOMES:
        pushes.add_metric([outcome], facts.get(f"pushes|{outcome}", 0))
    yield pushes
    for name, value in (
        ("registry_check_processes", snapshot.children),
        ("registry_work_limit_seconds", snapshot.work_limit),
        ("registry_checks_in_flight", snapshot.running),
        ("registry_claim_lag_seconds", facts.get("lag_ms", 0) / 1000),
        ("registry_publisher_fence", facts.get("publisher_fence", 0)),
        ("registry_push_groups", snapshot.groups),
    ):
        single = gauge(name)
        single.add_metric([], value)
        yield single


def _webhooks(snapshot: PlatformSnapshot) -> Iterator[Metric]:
    behind, messages = gauge("registry_webhook_behind_seconds"), counter("registry_webhook_messages_total")
    for row in snapshot.webhooks:
        waited = 0 if row.oldest_ms is None else max(0, snapshot.now_ms - row.oldest_ms)
        behind.add_metric([row.webhook], waited / 1000)
        for outcome, count in (("delivered", row.delivered), ("failed", row.failed), ("dead", row.dead)):
            messages.add_metric([row.webhook, outcome], count)
    cut_off = counter("registry_transitions_lost_total")
    cut_off.add_metric([], snapshot.transitions_lost)
    return iter((behind, messages, cut_off))


def _lags(facts: Mapping[str, int]) -> Iterator[Metric]:
    stages, loop = histogram("registry_check_lag_seconds"), histogram("registry_loop_lag_seconds")
    for stage in STAGES:
        stages.add_metric([stage], *buckets(facts, stage))
    loop.add_metric([], *buckets(facts, LOOP))
    return iter((stages, loop))


def pair_health(statuses: Iterable[HealthStatus], label: TenantLabel = str) -> Metric:
    """The health of each pair, and of the vendors' own endpoints."""
    family = gauge("registry_connector_health")
    for row in statuses:
        family.add_metric(_labels(row, label), _LEVEL[row.status])
    return family


def _remarkable(statuses: Iterable[HealthStatus], label: TenantLabel) -> Iterator[Metric]:
    """Series that only pairs have of which there is something to tell: few, whatever the number of pairs is."""
    status = gauge("registry_connector_status")
    expires = gauge("registry_connector_credential_expiry_timestamp_seconds")
    quota = gauge("registry_connector_quota_remaining_ratio")
    for row in statuses:
        if row.status is not Status.HEALTHY:
            status.add_metric([*_labels(row, label), row.status.value, row.reason.value, row.fault.value], 1)
        ends_ms, left = row.credential_expires_ms, row.quota
        if ends_ms is not None and ends_ms < row.read_ms + _EXPIRY_WITHIN_MS:
            expires.add_metric(_labels(row, label), ends_ms / 1000)
        if left is not None and left.limit > 0 and left.remaining < QUOTA_UNDER * left.limit:
            quota.add_metric(_labels(row, label), left.remaining / left.limit)
    return iter((status, expires, quota))


def _labels(row: HealthStatus, label: TenantLabel) -> list[str]:
    return [row.connector, label(row.tenant_id) if row.tenant_id else SYSTEM]


def _maintenance(pairs: Iterable[Pair], label: TenantLabel | None) -> Metric:
    family = gauge("registry_connector_maintenance")
    for pair in sorted(pairs):
        if pair.is_service:
            family.add_metric(pair, 1)
        elif label:
            family.add_metric([pair.connector, label(pair.tenant)], 1)
    return family


def _checks(counters: Mapping[str, int]) -> Iterator[Metric]:
    checks, turns = counter("registry_health_checks_total"), counter("registry_transitions_total")
    duration = histogram("registry_health_check_duration_seconds")
    counted = {"checks": checks, "turns": turns}
    for name, count in counters.items():
        kind, *labels = name.split("|")
        if kind in counted:
            counted[kind].add_metric(labels, count)
    for connector in sorted({name.split("|")[1] for name in counters if name.startswith("bucket|")}):
        total, buckets = 0, list[tuple[str, float]]()
        for bound in (*map(str, LATENCY_BUCKETS_MS), "inf"):
            total += counters.get(f"bucket|{connector}|{bound}", 0)
            buckets.append(("+Inf" if bound == "inf" else str(int(bound) / 1000), float(total)))
        duration.add_metric([connector], buckets, counters.get(f"sum_ms|{connector}", 0) / 1000)
    return iter((checks, turns, duration))


def _by_connector(name: str, values: Mapping[str, float]) -> Metric:
    family = gauge(name)
    for connector, value in values.items():
        family.add_metric([connector], value)
    return family
