"""The export to Cloud Monitoring, read by a server of the service's own messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import grpc
import pytest
from google.api.metric_pb2 import MetricDescriptor
from google.cloud.monitoring_v3 import CreateTimeSeriesRequest, TimeSeries
from google.protobuf.empty_pb2 import Empty
from structlog.testing import capture_logs

from registry import keys
from registry.bootstrap import Parts
from registry.health import Reason
from registry.ids import Pair
from tests.test_schedule import enter, record
from worker import cloud_monitoring, housekeeping
from worker.cloud_monitoring import MOST_SERIES, export
from worker.families import FAMILIES

METHOD = "google.monitoring.v3.MetricService"


@dataclass
class Google:
    """Takes what it is sent; `refuses` is answered to the first request, if it is set."""

    requests: list[CreateTimeSeriesRequest] = field(default_factory=list)
    refuses: grpc.StatusCode | None = None
    endpoint: str = ""

    def create(self, request: CreateTimeSeriesRequest, context: grpc.ServicerContext) -> Empty:
        self.requests.append(request)
        if self.refuses:
            refusal, self.refuses = self.refuses, None
            context.abort(refusal, "hunter2")
        return Empty()

    def series(self, name: str) -> list[TimeSeries]:
        wanted = f"custom.googleapis.com/{name}"
        return [one for request in self.requests for one in request.time_series if one.metric.type == wanted]


@pytest.fixture
def google() -> Iterator[Google]:
    made, server = Google(), grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(
        made.create, CreateTimeSeriesRequest.deserialize, Empty.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(METHOD, {"CreateTimeSeries": handler}),))
    made.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield made
    server.stop(None).wait()


@pytest.fixture
async def watched(parts: Parts) -> Parts:
    """Two checked pairs, and a project to write to."""
    for tenant, reason in {"acme": Reason.OK, "globex": Reason.CREDENTIAL_REJECTED}.items():
        await checked(parts, tenant, reason)
    return changed(parts, cloud_monitoring_project="watched")


async def checked(parts: Parts, tenant: str, reason: Reason = Reason.OK) -> None:
    await enter(parts, Pair("github", tenant))
    task = await parts.schedule.task(Pair("github", tenant))
    assert task is not None
    await record(parts, task, reason)


def changed(parts: Parts, **settings: object) -> Parts:
    return replace(parts, settings=parts.settings.model_copy(update=settings))


async def test_the_aggregates_are_written_to_the_project(watched: Parts, google: Google) -> None:
    assert await export(watched, endpoint=google.endpoint)
    assert {request.name for request in google.requests} == {"projects/watched"}
    pairs = {one.metric.labels["reason"]: one for one in google.series("registry_connector_pairs")}
    assert {reason: one.points[0].value.double_value for reason, one in pairs.items()} == {
        "ok": 1,
        "credential_rejected": 1,
    }
    assert {one.metric_kind for one in pairs.values()} == {MetricDescriptor.GAUGE}
    assert {one.resource.type for one in pairs.values()} == {"global"}


async def test_no_series_is_told_twice_and_every_one_is_of_the_table(watched: Parts, google: Google) -> None:
    await export(changed(watched, cloud_monitoring_pairs=2), endpoint=google.endpoint)
    told = [(one.metric.type, *sorted(one.metric.labels.items())) for r in google.requests for one in r.time_series]
    assert len(set(told)) == len(told)
    assert {kind.removeprefix("custom.googleapis.com/") for kind, *_ in told} <= FAMILIES.keys()


async def test_counters_have_a_beginning_that_stays_until_redis_loses_them(watched: Parts, google: Google) -> None:
    for _ in range(2):
        await export(watched, endpoint=google.endpoint)
    one, two = (row for row in google.series("registry_health_checks_total") if row.metric.labels["reason"] == "ok")
    assert one.metric_kind == two.metric_kind == MetricDescriptor.CUMULATIVE
    assert one.points[0].interval.start_time == two.points[0].interval.start_time < one.points[0].interval.end_time
    assert one.points[0].interval.end_time <= two.points[0].interval.end_time
    await watched.redis.flushdb()
    await checked(watched, "acme")
    await export(watched, endpoint=google.endpoint)
    anew = google.series("registry_health_checks_total")[-1]
    assert anew.points[0].interval.start_time > one.points[0].interval.start_time


async def test_a_histogram_becomes_a_distribution(watched: Parts, google: Google) -> None:
    await export(watched, endpoint=google.endpoint)
    (one,) = google.series("registry_health_check_duration_seconds")
    told = one.points[0].value.distribution_value
    assert (told.count, sum(told.bucket_counts)) == (2, 2)
    assert len(told.bucket_counts) == len(told.bucket_options.explicit_buckets.bounds) + 1
    assert list(told.bucket_options.explicit_buckets.bounds) == sorted(told.bucket_options.explicit_buckets.bounds)


@pytest.mark.parametrize(
    ("cap", "tenants", "shown"), [(2, "plain", True), (1, "plain", False), (2, "off", False), (2, "opaque", False)]
)
async def test_pairs_are_written_while_they_are_few_and_tenants_plain(
    watched: Parts, google: Google, cap: int, tenants: str, shown: bool
) -> None:
    await export(changed(watched, cloud_monitoring_pairs=cap, metrics_tenants=tenants), endpoint=google.endpoint)
    values = {
        one.metric.labels["tenant_id"]: one.points[0].value.double_value
        for one in google.series("registry_connector_health")
    }
    assert values == ({"acme": 1.0, "globex": 0.0} if shown else {})
    assert shown or "acme" not in str(google.requests)


async def test_an_environment_is_a_label_of_every_series(watched: Parts, google: Google) -> None:
    await export(changed(watched, metrics_environment="staging"), endpoint=google.endpoint)
    assert {one.metric.labels["environment"] for r in google.requests for one in r.time_series} == {"staging"}


async def test_many_series_go_in_several_requests(watched: Parts, google: Google) -> None:
    for n in range(MOST_SERIES + 1):
        await enter(watched, Pair("github", f"t{n}"))
    await export(changed(watched, cloud_monitoring_pairs=1_000), endpoint=google.endpoint)
    sizes = [len(request.time_series) for request in google.requests]
    assert len(google.series("registry_connector_health")) == MOST_SERIES + 3
    assert max(sizes) == MOST_SERIES
    assert len(sizes) == -(-sum(sizes) // MOST_SERIES)


@pytest.mark.parametrize(
    ("code", "event", "more"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "cloud_monitoring_refused", True),
        (grpc.StatusCode.PERMISSION_DENIED, "cloud_monitoring_failed", False),
        (grpc.StatusCode.UNAVAILABLE, "cloud_monitoring_failed", False),
    ],
)
async def test_a_refusal_is_told_and_harms_nothing(
    watched: Parts, google: Google, monkeypatch: pytest.MonkeyPatch, code: grpc.StatusCode, event: str, more: bool
) -> None:
    monkeypatch.setattr(cloud_monitoring, "MOST_SERIES", 10)
    google.refuses = code
    with capture_logs() as logged:
        assert not await export(watched, endpoint=google.endpoint)
    assert [line["event"] for line in logged] == [event]
    assert "hunter2" not in str(logged)
    assert (len(google.requests) > 1) is more, "what is wrong with one request is nothing to the others"


async def test_nobody_there_is_told_and_harms_nothing(watched: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_monitoring, "REQUEST_TIMEOUT", 0.2)
    with capture_logs() as logged:
        assert not await export(watched, endpoint="127.0.0.1:9")
    assert [line["event"] for line in logged] == ["cloud_monitoring_failed"]


async def test_one_process_exports_in_a_minute(watched: Parts, monkeypatch: pytest.MonkeyPatch, google: Google) -> None:
    async def here(parts: Parts) -> bool:
        return await export(parts, endpoint=google.endpoint)

    monkeypatch.setattr(housekeeping, "export", here)
    assert await housekeeping.export_cloud_monitoring(watched, "one:1")
    assert not await housekeeping.export_cloud_monitoring(watched, "two:2")
    assert await watched.redis.hget(keys.PLATFORM, "cloud_monitoring_ms")


async def test_without_the_extra_it_says_what_to_install(watched: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud", None)
    monkeypatch.delitem(sys.modules, "google.cloud.monitoring_v3")
    with capture_logs() as logged:
        assert not await export(watched)
    assert logged[0]["install"] == 'pip install "connector-registry[gcp]"'
