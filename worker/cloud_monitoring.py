"""The aggregates as custom metrics of Google Cloud Monitoring, beside Prometheus or instead of it.

The only file that imports its client, and only when it exports. What Prometheus calls ``registry_queue_depth`` is
``custom.googleapis.com/registry_queue_depth`` there, with the same labels. Gauges stay gauges; counters and histograms
become cumulative values that began when Redis began to count.
https://cloud.google.com/monitoring/custom-metrics/creating-metrics
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import structlog
from prometheus_client.metrics_core import Metric

from registry import keys
from registry.bootstrap import Parts
from registry.clock import steady
from registry.extras import lacking
from registry.settings import Settings
from worker.families import FAMILIES
from worker.metrics import platform_families, shard_families
from worker.snapshot import platform_snapshot, whole_snapshot

if TYPE_CHECKING:
    from google.cloud.monitoring_v3 import MetricServiceClient, TimeSeries, TypedValue

log = structlog.get_logger(__name__)

PREFIX = "custom.googleapis.com/"

MOST_SERIES = 200
"""Series in one request: https://cloud.google.com/monitoring/quotas"""

REQUEST_TIMEOUT = 10.0
"""Seconds one request may take."""

BUDGET = 45.0
"""Seconds all requests of one export may take: less than the minute to the next."""

HEALTH = "registry_connector_health"
"""The one family of pairs that is exported."""


async def export(parts: Parts, *, endpoint: str | None = None) -> bool:
    """Write one point of every series; False when not all of them were taken, which is logged.

    Args:
        endpoint: ``host:port`` of an emulator, spoken to in the clear and without credentials; None: Google.
    """
    if install := lacking("google.cloud.monitoring_v3", "gcp"):
        log.warning("cloud_monitoring_needs_a_package", install=install)
        return False
    families, began_ms = await _families(parts), await _began_ms(parts)
    return await asyncio.to_thread(_write, parts.settings, families, began_ms, parts.clock.now_ms(), endpoint)


async def _families(parts: Parts) -> list[Metric]:
    """The aggregates, and every pair's health while that is asked for and there are few enough."""
    settings, everything = parts.settings, await whole_snapshot(parts)
    few = len(everything.statuses) <= settings.cloud_monitoring_pairs
    label = str if few and settings.metrics_tenants == "plain" else None
    families = [*shard_families(everything, label), *platform_families(await platform_snapshot(parts))]
    return [family for family in families if family.name == HEALTH or "tenant_id" not in FAMILIES[_name(family)].labels]


async def _began_ms(parts: Parts) -> int:
    """Since when the counters count: kept beside them, so that it is lost with them."""
    await parts.redis.hsetnx(keys.PLATFORM, "counting_since_ms", str(parts.clock.now_ms() - 1))
    return int(await parts.redis.hget(keys.PLATFORM, "counting_since_ms") or 0)


def _write(settings: Settings, families: list[Metric], began_ms: int, now_ms: int, endpoint: str | None) -> bool:
    """Blocking: one request after the other."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    more = {"environment": settings.metrics_environment} if settings.metrics_environment else {}
    series = [one for family in families for one in _series(family, more, began_ms, now_ms)]
    name, until, whole = f"projects/{settings.cloud_monitoring_project}", steady() + BUDGET, True
    try:
        with _client(endpoint) as client:
            for start in range(0, len(series), MOST_SERIES):
                timeout = min(REQUEST_TIMEOUT, max(0.001, until - steady()))
                whole &= _taken(client, name, series[start : start + MOST_SERIES], timeout)
    except (GoogleAPIError, GoogleAuthError) as error:
        log.warning("cloud_monitoring_failed", error=type(error).__name__)
        return False
    return whole


def _client(endpoint: str | None) -> MetricServiceClient:
    """A client for one export: none outlives a fork, or a credential that was replaced."""
    from google.cloud.monitoring_v3 import MetricServiceClient
    from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport

    if endpoint is None:
        return MetricServiceClient()
    import grpc

    return MetricServiceClient(transport=MetricServiceGrpcTransport(channel=grpc.insecure_channel(endpoint)))


def _taken(client: MetricServiceClient, name: str, series: list[TimeSeries], timeout: float) -> bool:
    """One request. One that is turned down for what it holds costs only itself; its good series are written even so."""
    from google.api_core.exceptions import BadRequest

    try:
        client.create_time_series(name=name, time_series=series, retry=None, timeout=timeout)
    except BadRequest as error:
        log.warning("cloud_monitoring_refused", error=type(error).__name__, series=len(series))
        return False
    return True


def _series(family: Metric, more: Mapping[str, str], began_ms: int, now_ms: int) -> Iterator[TimeSeries]:
    """The series of one family, each with its one point; `more` are further labels."""
    from google.api.metric_pb2 import MetricDescriptor
    from google.cloud.monitoring_v3 import Point, TimeInterval, TimeSeries

    gauge = family.type == "gauge"
    interval = TimeInterval(end_time=_moment(now_ms), start_time=None if gauge else _moment(began_ms))
    kind = MetricDescriptor.GAUGE if gauge else MetricDescriptor.CUMULATIVE
    for labels, value in _histograms(family) if family.type == "histogram" else _numbers(family):
        series = TimeSeries(metric_kind=kind, points=[Point(interval=interval, value=value)])
        series.metric.type = f"{PREFIX}{_name(family)}"
        series.metric.labels.update({**labels, **more})
        series.resource.type = "global"
        yield series


def _numbers(family: Metric) -> Iterator[tuple[Mapping[str, str], TypedValue]]:
    from google.cloud.monitoring_v3 import TypedValue

    for sample in family.samples:
        yield sample.labels, TypedValue(double_value=sample.value)


def _histograms(family: Metric) -> Iterator[tuple[Mapping[str, str], TypedValue]]:
    """Prometheus tells a histogram as cumulated buckets and a sum; Google as buckets, a count and a mean.

    https://cloud.google.com/monitoring/api/ref_v3/rest/v3/TypedValue#Distribution
    """
    from google.api.distribution_pb2 import Distribution
    from google.cloud.monitoring_v3 import TypedValue

    sums = {_key(s.labels): s.value for s in family.samples if s.name.endswith("_sum")}
    rows: dict[tuple[tuple[str, str], ...], list[tuple[str, float]]] = {}
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            rows.setdefault(_key(sample.labels), []).append((sample.labels["le"], sample.value))
    for key, row in rows.items():
        counts = [int(after - before) for before, after in pairwise((0.0, *(value for _, value in row)))]
        count = sum(counts)
        explicit = Distribution.BucketOptions.Explicit(bounds=[float(bound) for bound, _ in row[:-1]])
        told = Distribution(
            count=count,
            mean=sums[key] / count if count else 0.0,
            bucket_options=Distribution.BucketOptions(explicit_buckets=explicit),
            bucket_counts=counts,
        )
        yield dict(key), TypedValue(distribution_value=told)


def _key(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in labels.items() if name != "le")


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _moment(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
