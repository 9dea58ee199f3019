"""The vendors' status pages: each format, hostile ones, and that they are evidence and nothing more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from beat_schedule import beat_schedule
from registry import keys
from registry.bootstrap import Parts, assemble
from registry.catalog import Catalog
from registry.connector import StatusPage
from registry.connectors import CONNECTORS
from registry.health import Reason, Status
from registry.http import VendorHttp
from registry.ids import SYSTEM, Pair
from registry.recording import Outcome
from registry.settings import Settings
from registry.status_pages import FORMATS, StatusReport, keep, pages, read_page, status_reports
from tests.fixtures_vendors import NOW_MS, Serve, says
from tests.test_incidents import recorded
from worker.demo.status_pages import AUDIENCE, PAGES
from worker.demo.vendors import DemoVendors
from worker.housekeeping import read_status_pages
from worker.incidents import detect

STATUSPAGE: dict[str, object] = {
    "page": {"id": "kctbh9vrtdwd", "name": "GitHub", "url": "https://www.githubstatus.com"},
    "status": {"indicator": "minor", "description": "Minor Service Outage"},
    "components": [
        {"id": "8l4", "name": "Git Operations", "status": "operational", "group_id": None},
        {"id": "brv", "name": "API Requests", "status": "operational", "only_show_if_degraded": False},
        {"id": "h2f", "name": "Copilot", "status": "partial_outage"},
    ],
    "incidents": [
        {"id": "x", "name": "Copilot is slow", "impact": "minor", "components": [{"id": "h2f", "name": "Copilot"}]},
    ],
    "scheduled_maintenances": [],
}
INCIDENT_IO = {  # Linear's page, which lists no incidents while there are none
    "page": {"id": "01GYJ3SH6BPHBR7V0GQAW4GTM0", "name": "Linear", "url": "https://linearstatus.com/"},
    "status": {"description": "All Systems Operational", "indicator": "none"},
    "components": [
        {
            "id": "01JX3FAHZ7JHN4P5EK04Z2F087",
            "name": "EU Region \u2013 Linear API",
            "status": "operational",
            "position": 0,
        },
        {
            "id": "01GYJ3SHFDSV4YXG2ENM32HAY4",
            "name": "US Region \u2013 Linear API",
            "status": "operational",
            "position": 1,
        },
    ],
}
SLACK: dict[str, object] = {
    "status": "active",
    "date_created": "2019-04-09T07:35:46-07:00",
    "date_updated": "2019-04-09T07:35:46-07:00",
    "active_incidents": [
        {
            "id": "546",
            "date_created": "2018-09-07T14:35:00-07:00",
            "title": "Slack's forwarding email feature is failing for some customers",
            "type": "incident",
            "status": "active",
            "services": ["Apps/Integrations/APIs"],
            "notes": [{"date_created": "2018-09-07T18:34:15-07:00", "body": "Technical Summary"}],
        }
    ],
}
STATUSIO: dict[str, dict[str, object]] = {
    "result": {
        "status_overall": {"updated": "2021-12-06T16:49:49.455Z", "status": "Planned Maintenance", "status_code": 200},
        "status": [
            {"id": "1", "name": "Website", "status": "Planned Maintenance", "status_code": 200, "containers": []},
            {"id": "2", "name": "API", "status": "Operational", "status_code": 100, "containers": []},
        ],
        "incidents": [],
        "maintenance": {"active": [], "upcoming": []},
    }
}
GOOGLE: list[dict[str, object]] = [
    {
        "id": "n1",
        "begin": "2026-09-28T09:00:00+00:00",
        "external_desc": "Vertex Gemini API elevated errors",
        "status_impact": "SERVICE_DISRUPTION",
        "severity": "medium",
        "service_name": "Multiple Products",
        "affected_products": [{"title": "Vertex Gemini API", "id": "Z0FZJAMvEB4j3NbCJs6B"}],
    },
    {
        "id": "n0",
        "begin": "2022-07-09T14:17:00+00:00",
        "end": "2022-07-10T15:47:00+00:00",
        "external_desc": "Vertex AI was down",
        "status_impact": "SERVICE_OUTAGE",
        "service_name": "Vertex AI Online Prediction",
        "affected_products": [],
    },
]


def page_of(name: str) -> StatusPage:
    found = Catalog(CONNECTORS).load(name).manifest.status_page
    assert found is not None
    return found


def said(name: str, body: object) -> tuple[bool, str]:
    page = page_of(name)
    return FORMATS[page.format](json.dumps(body).encode(), page.concerns)


@pytest.mark.parametrize("name", CONNECTORS)
def test_every_connector_names_its_vendors_page_in_a_format_that_is_read(name: str) -> None:
    assert page_of(name).format in FORMATS
    assert page_of(name).url.startswith("https://")


def test_trouble_of_what_does_not_concern_us_is_not_told() -> None:
    assert said("github", STATUSPAGE) == (True, "Minor Service Outage")
    assert said("gitlab", STATUSIO) == (True, "Planned Maintenance")
    assert said("slack", {**SLACK, "active_incidents": [{"title": "Huddles", "services": ["Huddles"]}]})[0]
    assert said("vertex", [{**GOOGLE[0], "affected_products": [{"title": "Cloud Run"}]}])[0]


def test_trouble_that_concerns_us_is_told_in_the_pages_words() -> None:
    components = [{"name": "API Requests", "status": "degraded_performance"}]
    incidents = [{"name": "Slow API", "components": components}]
    assert said("github", {**STATUSPAGE, "components": components, "incidents": incidents}) == (
        False,
        "Slow API; API Requests: degraded_performance",
    )
    assert said("slack", SLACK) == (
        False,
        "incident: Slack's forwarding email feature is failing for some customers",
    )
    api = {"name": "API", "status": "Service Disruption", "status_code": 500}
    assert said("gitlab", {"result": {**STATUSIO["result"], "status": [api]}}) == (False, "API: Service Disruption")
    assert said("vertex", GOOGLE) == (False, "SERVICE_DISRUPTION: Vertex Gemini API elevated errors")


def test_a_page_without_trouble_is_well() -> None:
    assert said("linear", INCIDENT_IO) == (True, "All Systems Operational")
    assert said("slack", {"status": "ok", "active_incidents": [], "date_created": "2018-09-07T18:34:15-07:00"})[0]
    assert said("vertex", GOOGLE[1:])[0]
    assert said("vertex", [{**GOOGLE[0], "status_impact": "SERVICE_INFORMATION"}])[0]


def test_where_the_parts_have_other_names_the_whole_page_counts() -> None:
    assert said("linear", {"status": {"indicator": "major", "description": "Major outage"}}) == (False, "Major outage")
    overall = {"status_overall": {"status": "Degraded Performance", "status_code": 300}, "status": []}
    assert said("gitlab", {"result": overall}) == (False, "Degraded Performance")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["status", "components", "result", "name", "active_incidents"]), inner)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("format_", FORMATS)
@given(body=st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 100_000))
def test_a_hostile_page_is_refused_in_one_way_only(format_: str, body: bytes) -> None:
    try:
        ok, summary = FORMATS[format_](body, ("API",))
    except ValidationError:
        return
    assert isinstance(ok, bool)
    assert isinstance(summary, str)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (503, "down", "cannot be read: HTTP 503"),
        (200, "<html>", "cannot be read: not in the documented format"),
        (200, "x" * (2 << 20), "cannot be read: the answer is larger than 1048576 bytes"),
        (302, "", "cannot be read: 127.0.0.1 redirects to another address, which is not followed"),
    ],
)
async def test_a_page_that_cannot_be_read_says_nothing(
    serve: Serve, vendor_http: VendorHttp, status: int, body: str, told: str
) -> None:
    page = StatusPage(format="slack", url=await serve(says(status, body)))
    assert await read_page(vendor_http, "slack", page, timeout=5, now_ms=NOW_MS) == StatusReport(
        "slack", None, told, page.url, NOW_MS
    )


async def test_a_page_that_hangs_is_left_after_a_time(serve: Serve, vendor_http: VendorHttp) -> None:
    async def hang(_request: object) -> object:
        await asyncio.Event().wait()
        raise AssertionError

    page = StatusPage(format="slack", url=await serve(hang))  # type: ignore[arg-type]  # it never answers
    report = await read_page(vendor_http, "slack", page, timeout=0.05, now_ms=NOW_MS)
    assert (report.ok, report.summary) == (None, "cannot be read: no answer within 0.05 s")


async def test_a_pages_text_is_cleaned(serve: Serve, vendor_http: VendorHttp) -> None:
    incident = {"title": "\x1b[2J ghp_16C7e42F292c6912E7710c838347Ae178B4a" + "x" * 500}
    page = StatusPage(format="slack", url=await serve(says(200, {"status": "active", "active_incidents": [incident]})))
    report = await read_page(vendor_http, "slack", page, timeout=5, now_ms=NOW_MS)
    assert report.ok is False
    assert "\x1b" not in report.summary
    assert "ghp_" not in report.summary
    assert len(report.summary) <= 200


def test_the_operator_moves_a_page_or_switches_it_off(settings: Settings) -> None:
    catalog, urls = Catalog(CONNECTORS), {"github": "https://status.example.com/summary.json", "slack": ""}
    found = pages(catalog, settings.model_copy(update={"status_page_urls": urls}))
    assert set(found) == {"github", "gitlab", "linear", "vertex"}
    assert found["github"].url == "https://status.example.com/summary.json"
    assert found["gitlab"] == page_of("gitlab")


def test_no_pace_is_no_reading(settings: Settings) -> None:
    assert "read_status_pages" in beat_schedule(settings)
    assert "read_status_pages" not in beat_schedule(settings.model_copy(update={"status_pages_every": 0.0}))


@pytest.fixture
async def watched(settings: Settings, script: DemoVendors) -> AsyncIterator[Parts]:
    """Parts whose vendors and their status pages are the demo's."""
    urls = {
        "vendor_urls": {name: f"{script.url}/{name}" for name in CONNECTORS},
        "status_page_urls": {name: f"{script.url}/status/{name}" for name in CONNECTORS},
    }
    parts = assemble(settings.model_copy(update=urls))
    yield parts
    await parts.aclose()


async def test_the_demo_vendors_pages_are_read_and_kept_for_a_while(watched: Parts, script: DemoVendors) -> None:
    assert set(PAGES) == set(CONNECTORS)
    script.script.set(AUDIENCE, "gitlab", "error_503")
    assert await read_status_pages(watched, "one")
    reports = await status_reports(watched.redis)
    assert {name: report.ok for name, report in reports.items()} == {
        "github": True,
        "gitlab": False,
        "linear": True,
        "slack": True,
        "vertex": True,
    }
    assert 0 < await watched.redis.pttl(keys.STATUS_PAGES) <= 900_000
    assert not await read_status_pages(watched, "another"), "one process reads them"
    script.script.set("*", "*", "maintenance")
    assert await read_status_pages(watched, "one")
    assert {report.ok for report in (await status_reports(watched.redis)).values()} == {False}


async def test_an_outage_says_what_the_vendors_page_tells_of_it(watched: Parts, script: DemoVendors) -> None:
    endpoint = f"github|{script.url.removeprefix('http://')}"
    await recorded(watched, endpoint, Reason.VENDOR_ERROR, 8)
    (before,) = await detect(watched)
    assert "status page" not in before.explanation
    script.script.set(AUDIENCE, "github", "error_503")
    await read_status_pages(watched, "one")
    told = "; the vendor's status page says: Incident with API Requests; API Requests: major_outage"
    (incident,) = await detect(watched)
    assert incident.explanation == before.explanation + told
    await watched.redis.delete(*await watched.redis.keys("*:tally:*"))  # what is not seen any more stays for a while
    (incident,) = await detect(watched)
    assert incident.explanation == before.explanation + told
    script.script.clear()
    await read_status_pages(watched, "one")
    assert "status page" not in (await detect(watched))[0].explanation


async def test_a_page_that_cannot_be_read_is_no_evidence(watched: Parts, script: DemoVendors) -> None:
    await keep(watched.redis, [StatusReport("github", None, "cannot be read: HTTP 503", "https://x", NOW_MS)], 60)
    await recorded(watched, f"github|{script.url.removeprefix('http://')}", Reason.VENDOR_ERROR, 8)
    (incident,) = await detect(watched)
    assert "status page" not in incident.explanation


async def test_a_page_says_nothing_of_an_instance_that_is_not_the_vendors_own(
    watched: Parts, script: DemoVendors
) -> None:
    await keep(watched.redis, [StatusReport("gitlab", False, "API: Service Disruption", "https://x", NOW_MS)], 60)
    await recorded(watched, "gitlab|gitlab.corp.example", Reason.VENDOR_ERROR, 8)
    (incident,) = await detect(watched)
    assert "status page" not in incident.explanation


async def test_googles_page_tells_of_every_region(watched: Parts) -> None:
    await keep(watched.redis, [StatusReport("vertex", False, "SERVICE_OUTAGE: all", "https://x", NOW_MS)], 60)
    await recorded(watched, "vertex|europe-west4-aiplatform.googleapis.com", Reason.VENDOR_ERROR, 8)
    (incident,) = await detect(watched)
    assert incident.explanation.endswith("SERVICE_OUTAGE: all")


async def test_red_pages_alone_change_no_verdict_and_open_no_incident(watched: Parts, script: DemoVendors) -> None:
    for name in CONNECTORS:
        script.script.set(AUDIENCE, name, "error_503")
    await watched.reconciler.run()
    assert await read_status_pages(watched, "one")
    for name in CONNECTORS:
        task = await watched.schedule.task(Pair(name, SYSTEM))
        assert task is not None
        verdict = await watched.checker.check(task.scheduled)
        assert verdict.reason is Reason.OK
        await watched.recorder.record([Outcome(task, verdict, watched.checker.endpoint(task.scheduled))])
    assert await detect(watched) == []
    statuses = await watched.cache.statuses(SYSTEM, list(CONNECTORS))
    assert {status.status for status in statuses.values()} == {Status.HEALTHY}
