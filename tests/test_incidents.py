import json
from collections.abc import Collection, Sequence
from dataclasses import replace

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.canary import Canary
from registry.health import REASONS, Fault, Reason, Status, Verdict
from registry.ids import SYSTEM, Pair
from registry.incidents import Incident, IncidentKind, attribute, dump, open_incidents, ours
from registry.record import Kind, Record
from registry.recording import Outcome
from registry.settings import Settings
from registry.status_pages import status_reports
from registry.tally import BUCKET_MS, Ending, Tally, ending
from tests.fixtures_vendors import Serve, says
from tests.plugin import Plugin, plugin_config
from tests.test_schedule import CONFIG
from worker.incidents import Rules, Services, detect, judge

RULES = Rules(share=0.2, tenants=5, window_ms=60_000, hold_ms=900_000)
GITHUB, SLACK, LINEAR = "github|api.github.com", "slack|slack.com", "linear|api.linear.app"
NOW = 1_000_000


def tally(**counts: int) -> Tally:
    """A tally in which every check is another tenant's."""
    made = Tally()
    for name, count in counts.items():
        for number in range(count):
            made.add(Ending(name), f"{name}-{number}")
    return made


def look(
    tallies: dict[str, Tally], down: Collection[str], before: Sequence[Incident], rules: Rules, now: int
) -> list[Incident]:
    """Judge tallies that were all made just now."""
    return judge({now // BUCKET_MS: tallies}, Services(down=frozenset(down)), before, rules, now)


def kinds(incidents: list[Incident]) -> list[tuple[str, str]]:
    return [(incident.kind.value, incident.endpoint) for incident in incidents]


def raw(reason: Reason, fault: Fault | None = None) -> Verdict:
    return Verdict(reason, fault or REASONS[reason].fault, NOW)


def test_an_endpoint_that_fails_for_many_tenants_is_an_outage() -> None:
    found = look({GITHUB: tally(good=20, failed=10), SLACK: tally(good=30)}, (), (), RULES, NOW)
    assert kinds(found) == [("outage", GITHUB)]
    assert "33% of the checks" in found[0].explanation


@pytest.mark.parametrize("counts", [{"good": 100, "failed": 10}, {"failed": 4}, {"good": 30}])
def test_few_failures_are_no_outage(counts: dict[str, int]) -> None:
    assert look({GITHUB: tally(**counts)}, (), (), RULES, NOW) == []


def test_what_has_just_begun_is_seen_although_the_minute_was_good() -> None:
    buckets = {bucket: {GITHUB: tally(good=20)} for bucket in range(95, 100)}
    buckets[100] = {GITHUB: tally(good=4, failed=20)}
    assert kinds(judge(buckets, Services(), (), RULES, 1_005_000)) == [("outage", GITHUB)]


def test_one_tenant_failing_often_is_no_outage() -> None:
    lonely = Tally()
    for _ in range(50):
        lonely.add(Ending.FAILED, "acme")
    assert look({GITHUB: lonely}, (), (), RULES, NOW) == []


def test_a_failing_service_check_is_an_outage_by_itself() -> None:
    assert kinds(look({}, [GITHUB], (), RULES, NOW)) == [("outage", GITHUB)]


def test_unrelated_endpoints_out_of_reach_together_are_our_own_fault_and_one_cause() -> None:
    dark = {endpoint: tally(cut_off=10) for endpoint in (GITHUB, SLACK, LINEAR)}
    found = look(dark, [GITHUB], (), RULES, NOW)
    assert kinds(found) == [("platform", "*")]
    assert found[0].kind.fault is Fault.PLATFORM


def test_a_few_tenants_with_dead_addresses_are_not_the_networks_end() -> None:
    tallies = {endpoint: tally(good=50) for endpoint in (GITHUB, SLACK, LINEAR)}
    tallies |= {f"{name}|dead.example": tally(cut_off=3) for name in ("github", "slack", "linear")}
    assert [found.kind for found in look(tallies, (), (), RULES, NOW)] == []


def test_an_outage_that_turns_out_to_be_ours_is_closed() -> None:
    before = look({GITHUB: tally(cut_off=10), SLACK: tally(good=10)}, (), (), RULES, NOW)
    assert kinds(before) == [("outage", GITHUB)]
    after = look({GITHUB: tally(cut_off=10), SLACK: tally(cut_off=10)}, (), before, RULES, NOW)
    assert kinds(after) == [("platform", "*")]


def test_checks_that_never_reach_a_vendor_are_an_incident_of_ours() -> None:
    found = look({GITHUB: tally(ours=10, good=2), SLACK: tally(ours=10)}, (), (), RULES, NOW)
    assert kinds(found) == [("internal", "*")]
    assert attribute(raw(Reason.TIMEOUT), GITHUB, found).fault is Fault.VENDOR


def test_what_our_network_hid_still_counts_as_out_of_reach() -> None:
    hidden = ours(raw(Reason.TIMEOUT), "the canary is gone")
    assert ending(hidden, None) is Ending.CUT_OFF


def test_two_vendors_with_errors_of_their_own_are_two_outages() -> None:
    found = look({GITHUB: tally(failed=10), SLACK: tally(failed=10)}, (), (), RULES, NOW)
    assert kinds(found) == [("outage", GITHUB), ("outage", SLACK)]


def test_an_incident_goes_on_while_it_is_seen_and_closes_a_window_later() -> None:
    first = look({GITHUB: tally(failed=10)}, (), (), RULES, NOW)
    second = look({GITHUB: tally(failed=30)}, (), first, RULES, NOW + 30_000)
    assert (second[0].started_ms, second[0].tenants) == (NOW, 30)
    quiet = look({GITHUB: tally(good=10)}, (), second, RULES, NOW + 90_000)
    assert kinds(quiet) == [("outage", GITHUB)]
    assert look({GITHUB: tally(good=10)}, (), quiet, RULES, NOW + 90_001) == []


def test_an_incident_of_the_future_is_of_a_clock_that_was_set_back() -> None:
    ahead = NOW + 3_600_000
    before = [Incident(IncidentKind.OUTAGE, GITHUB, ahead, ahead, 25, "no usable answer")]
    assert judge({}, Services(), before, RULES, NOW) == []


def test_rejections_of_many_tenants_are_suspected_then_believed() -> None:
    rejected = {GITHUB: tally(good=10, rejected=10)}
    suspected = look(rejected, (), (), RULES, NOW)
    assert kinds(suspected) == [("rejections", GITHUB)]
    verdict = raw(Reason.CREDENTIAL_REJECTED)
    assert attribute(verdict, GITHUB, suspected).fault is Fault.VENDOR
    believed = look(rejected, (), suspected, RULES, NOW + 900_000)
    assert believed[0].confirmed
    assert attribute(verdict, GITHUB, believed).fault is Fault.TENANT


def test_an_incident_excuses_tenants_of_its_own_endpoint_only() -> None:
    open_now = look({GITHUB: tally(rejected=10)}, (), (), RULES, NOW)
    revised = attribute(raw(Reason.PERMISSION_DENIED), GITHUB, open_now)
    assert (revised.status, revised.fault) == (Status.UNHEALTHY, Fault.VENDOR)
    assert "Nothing for the tenant" in (revised.action or "")
    assert attribute(raw(Reason.PERMISSION_DENIED), SLACK, open_now).fault is Fault.TENANT
    assert attribute(raw(Reason.MISCONFIGURED), GITHUB, open_now).fault is Fault.TENANT
    assert attribute(raw(Reason.OK), GITHUB, open_now).reason is Reason.OK


def test_limits_of_many_tenants_are_the_vendors() -> None:
    open_now = look({GITHUB: tally(limited=10)}, (), (), RULES, NOW)
    assert attribute(raw(Reason.RATE_LIMITED), GITHUB, open_now).fault is Fault.VENDOR
    assert attribute(raw(Reason.CREDENTIAL_REJECTED), GITHUB, open_now).fault is Fault.TENANT


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.UNREACHABLE])
def test_while_our_network_fails_nobody_is_blamed(reason: Reason) -> None:
    ours_now = [Incident(IncidentKind.PLATFORM, "*", NOW, NOW, 9, "no answer from 3 of 3 unrelated connectors")]
    verdict = attribute(raw(reason), GITHUB, ours_now)
    assert (verdict.status, verdict.reason, verdict.fault) == (Status.UNKNOWN, Reason.MONITOR_ERROR, Fault.PLATFORM)
    assert attribute(raw(Reason.CREDENTIAL_REJECTED), GITHUB, ours_now).reason is Reason.CREDENTIAL_REJECTED


def test_what_was_blamed_on_a_vendor_is_taken_back_when_it_was_us() -> None:
    from registry.thresholds import Thresholds, advance

    record: Record | None = None
    for fence in (1, 2):
        record = advance(record, raw(Reason.TIMEOUT), Thresholds(), revision=1, fence=fence)
    assert record is not None
    record = msgspec.structs.replace(record, fresh_until_ms=NOW * 2)
    assert (record.status, record.fault) == (Status.UNHEALTHY, Fault.VENDOR)
    record = advance(record, ours(raw(Reason.TIMEOUT), "the canary is gone"), Thresholds(), revision=1, fence=3)
    assert (record.status, record.fault) == (Status.UNKNOWN, Fault.PLATFORM)


def test_a_credential_that_was_bad_before_is_no_news() -> None:
    was_ok = Record(1, 1, Kind.CHECKED, verdict=raw(Reason.OK))
    was_bad = Record(1, 1, Kind.CHECKED, verdict=raw(Reason.CREDENTIAL_REJECTED))
    suspected = Record(1, 1, Kind.CHECKED, verdict=raw(Reason.CREDENTIAL_REJECTED, Fault.VENDOR))
    bad = raw(Reason.CREDENTIAL_REJECTED)
    assert [ending(bad, record) for record in (was_ok, was_bad, suspected, None)] == [
        Ending.REJECTED,
        None,
        Ending.REJECTED,
        None,
    ]


@pytest.mark.parametrize(
    ("reason", "ended"),
    [
        (Reason.OK, Ending.GOOD),
        (Reason.QUOTA_LOW, Ending.GOOD),
        (Reason.RATE_LIMITED, Ending.LIMITED),
        (Reason.VENDOR_ERROR, Ending.FAILED),
        (Reason.TIMEOUT, Ending.CUT_OFF),
        (Reason.SECRET_UNAVAILABLE, Ending.OURS),
        (Reason.MISCONFIGURED, None),
    ],
)
def test_how_a_check_ended(reason: Reason, ended: Ending | None) -> None:
    assert ending(raw(reason), Record(1, 1, Kind.CHECKED, verdict=raw(Reason.OK))) is ended


async def recorded(parts: Parts, endpoint: str, reason: Reason, tenants: int) -> None:
    name = endpoint.partition("|")[0]
    for number in range(tenants):
        pair = Pair(name, f"t{number}")
        await parts.schedule.put(pair, 1, CONFIG, reset=True)
        task = await parts.schedule.task(pair)
        assert task is not None
        await parts.recorder.record([Outcome(task, raw(reason), endpoint)])


async def test_recorded_checks_become_an_incident_and_its_end_is_told(parts: Parts) -> None:
    await recorded(parts, GITHUB, Reason.VENDOR_ERROR, 8)
    (incident,) = await detect(parts)
    assert (incident.kind, incident.endpoint, incident.tenants) == (IncidentKind.OUTAGE, GITHUB, 8)
    assert await open_incidents(parts.redis) == [incident]
    closing = replace(incident, seen_ms=0)
    from worker.incidents import _write

    await _write(parts, [closing], [])
    assert await open_incidents(parts.redis) == []
    told = str(await parts.redis.xrange(keys.INCIDENT_LOG))
    assert told.index("opened") < told.index("closed")


async def test_what_another_version_says_of_incidents_and_status_pages_stops_no_check(parts: Parts) -> None:
    await recorded(parts, GITHUB, Reason.VENDOR_ERROR, 8)
    (incident,) = await detect(parts)
    known = json.loads(dump(incident))
    await parts.redis.hset(keys.INCIDENTS, "more", json.dumps(known | {"of_tomorrow": 1}))
    await parts.redis.hset(keys.INCIDENTS, "other", json.dumps(known | {"kind": "of_tomorrow"}))
    assert await open_incidents(parts.redis) == [incident, incident]
    page = {"connector": "github", "ok": True, "summary": "fine", "url": "https://x.example", "read_ms": 1}
    rows = {"github": page | {"of_tomorrow": 1}, "slack": {"connector": "slack"}}
    await parts.redis.hset(keys.STATUS_PAGES, mapping={name: json.dumps(row) for name, row in rows.items()})
    assert list(await status_reports(parts.redis)) == ["github"]


async def test_a_vendor_whose_service_check_fails_has_an_incident(settings: Settings) -> None:
    parts = assemble(settings.model_copy(update={"vendor_urls": {"github": "http://127.0.0.1:9/"}}))
    await parts.reconciler.run()
    pair = Pair("github", SYSTEM)
    for _ in range(2):
        task = await parts.schedule.task(pair)
        assert task is not None
        verdict = await parts.checker.check(task.scheduled)
        await parts.recorder.record([Outcome(task, verdict, parts.checker.endpoint(task.scheduled))])
    assert kinds(await detect(parts)) == [("outage", "github|127.0.0.1:9")]
    await parts.aclose()


async def test_an_address_that_is_refused_is_no_outage_of_a_vendor(settings: Settings) -> None:
    parts = assemble(settings.model_copy(update={"vendor_urls": {"github": "https://169.254.169.254"}}))
    await parts.reconciler.run()
    task = await parts.schedule.task(Pair("github", SYSTEM))
    assert task is not None
    verdict = await parts.checker.check(task.scheduled)
    await parts.recorder.record([Outcome(task, verdict, parts.checker.endpoint(task.scheduled))])
    status = await parts.cache.status(Pair("github", SYSTEM))
    assert (status.reason, status.fault) == (Reason.MISCONFIGURED, Fault.PLATFORM), "there is no tenant to blame"
    assert await detect(parts) == []
    await parts.aclose()


async def test_when_most_vendors_are_silent_it_is_us_however_few_tenants_there_are(settings: Settings) -> None:
    gone = dict.fromkeys(("github", "gitlab", "linear", "slack"), "http://127.0.0.1:9")
    parts = assemble(settings.model_copy(update={"vendor_urls": gone}))
    await parts.reconciler.run()
    pairs = [Pair(name, SYSTEM) for name in gone]
    for _ in range(2):
        for pair in pairs:
            task = await parts.schedule.task(pair)
            assert task is not None
            verdict = await parts.checker.check(task.scheduled)
            await parts.recorder.record([Outcome(task, verdict, parts.checker.endpoint(task.scheduled))])
    assert kinds(await detect(parts)) == [("platform", "*")]
    again = assemble(parts.settings)
    task = await again.schedule.task(pairs[0])
    assert task is not None
    verdict = await again.checker.check(task.scheduled)
    await again.recorder.record([Outcome(task, verdict, again.checker.endpoint(task.scheduled))])
    status = await again.cache.status(pairs[0])
    assert (status.reason, status.fault) == (Reason.MONITOR_ERROR, Fault.PLATFORM)
    assert kinds(await detect(again)) == [("platform", "*")], "and it stays open while nobody answers"
    await again.aclose()
    await parts.aclose()


async def test_a_check_of_an_open_incident_does_not_blame_the_tenant(parts: Parts) -> None:
    parts.catalog.register("plugin", Plugin)
    await parts.configurations.set(Pair("plugin", "acme"), plugin_config(reason="credential_rejected"), actor="test")
    await recorded(parts, "plugin|plugin.example.com", Reason.OK, 6)
    await recorded(parts, "plugin|plugin.example.com", Reason.VENDOR_ERROR, 6)
    await detect(parts)
    task = await parts.schedule.task(Pair("plugin", "acme"))
    assert task is not None
    verdict = await parts.checker.check(task.scheduled)
    assert (verdict.reason, verdict.fault) == (Reason.CREDENTIAL_REJECTED, Fault.VENDOR)


async def test_a_canary_that_answers_is_alive_and_a_gone_one_is_not() -> None:
    app = web.Application()
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=404)

    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        canary = Canary(str(server.make_url("/alive")))
        assert await canary.alive()
        assert await canary.alive()
        assert asked == ["/alive"], "one answer stands for a while"
    assert not await Canary("http://127.0.0.1:9/").alive()
    assert await Canary(None).alive()


@pytest.mark.parametrize("where", ["http://a..b/", f"http://{'x' * 70}.example/"])
async def test_a_canary_that_leads_where_no_name_can_be_is_gone(serve: Serve, where: str) -> None:
    canary = Canary(await serve(says(302, "", {"Location": where})))
    assert [await canary.alive(), await canary.alive()] == [False, False]


async def test_a_vendor_out_of_reach_while_the_canary_is_too_is_our_fault(settings: Settings) -> None:
    parts = assemble(
        settings.model_copy(
            update={"canary_url": "http://127.0.0.1:9/", "vendor_urls": {"github": "http://127.0.0.1:9"}}
        )
    )
    await parts.reconciler.run()
    task = await parts.schedule.task(Pair("github", SYSTEM))
    assert task is not None
    verdict = await parts.checker.check(task.scheduled)
    assert (verdict.reason, verdict.fault) == (Reason.MONITOR_ERROR, Fault.PLATFORM)
    await parts.aclose()
