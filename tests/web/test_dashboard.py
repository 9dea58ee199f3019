"""The dashboard's pages by HTTP: who sees what, and that nothing of a vendor's or a tenant's gets out of its place."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from registry import keys
from registry.health import Reason
from registry.incidents import Incident, IncidentKind, dump
from registry.roles import Role
from registry.settings import Settings
from tests.fixtures_web import Api, StartApi
from tests.web.fleet import fill
from tests.web.pages import Html, browser, parsed

PAGES = (
    "/",
    "/tenants/acme",
    "/tenants/acme/connectors/github",
    "/connectors/slack",
    "/incidents",
    "/maintenance",
    "/audit",
)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> \" onmouseover='x' {{ 7*7 }}"


async def outage(api: Api, explanation: str = "no usable answer", closed: bool = False) -> Incident:
    now = api.parts.clock.now_ms()
    incident = Incident(IncidentKind.OUTAGE, "slack|slack.com", now - 60_000, now, 12, explanation)
    if closed:
        public = json.dumps(incident.as_dict())
        await api.parts.redis.xadd(keys.INCIDENT_LOG, {"event": "closed", "incident": public})
    else:
        await api.parts.redis.hset(keys.INCIDENTS, incident.id, dump(incident))
    return incident


async def configured(api: Api, tenant: str = "acme") -> None:
    config = {"auth": {"type": "bearer", "token": "the-clear-token"}, "label": HOSTILE}
    await api.site.registry.set_config("github", config, tenant_id=tenant, actor="test")


def outline(page: Html) -> None:
    """What every page holds to: nothing inline, a title, one main, headings, labelled regions."""
    for one in page.elements:
        assert not {name for name in one.attributes if name.startswith("on") or name == "style"}, one
        assert one.tag != "style"
        if one.tag == "script":
            assert one.attributes["src"].startswith("/static/")
            assert not one.text.strip()
    assert page.all("title")[0].text.strip()
    assert len(page.all("main")) == 1
    assert len(page.all("h1")) == 1
    for table in page.all("table"):
        assert table.text.strip()
    assert len(page.all("caption")) == len(page.all("table"))
    for box in page.all("div"):
        assert box.attributes.get("role") != "region" or box.attributes["tabindex"] == "0"
    ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("role", list(Role))
async def test_every_page_for_every_role(api: Api, role: Role) -> None:
    await fill(api.parts, ["acme", "beta"])
    await configured(api)
    await outage(api)
    someone = await browser(api, role)
    forbidden = {Role.READER: {PAGES[2], "/audit"}, Role.OPERATOR: {"/audit"}, Role.ADMIN: set()}[role]
    for path in PAGES:
        page = await someone.page(path, 403 if path in forbidden else 200)
        outline(page)
    links = {one.attributes["href"] for one in (await someone.page("/")).all("a")}
    assert ("/audit" in links) == (role is Role.ADMIN)


@pytest.mark.parametrize("role", list(Role))
async def test_a_tenants_token_sees_its_own_alone(api: Api, role: Role) -> None:
    await fill(api.parts, ["acme", "beta"], says=lambda _: Reason.VENDOR_ERROR)
    await configured(api)
    await configured(api, "beta")
    await outage(api, "it fails for about 12 tenants")
    someone = await browser(api, role, "acme")
    assert (await someone.get("/")).headers["Location"] == "/tenants/acme"
    for path in ("/tenants/acme", "/connectors/slack", "/maintenance"):
        page = await someone.page(path)
        outline(page)
        assert "beta" not in page.one("main").text
        assert "12 tenants" not in page.one("main").text
    if role is Role.ADMIN:
        assert "beta" not in (await someone.page("/audit")).one("main").text
    for path in ("/tenants/beta", "/tenants/nobody", "/tenants/beta/connectors/github"):
        await someone.page(path, 404)
    assert (await someone.post("/tenants/beta/connectors/github/check")).status == 404
    await someone.page("/incidents", 403)
    if role is Role.ADMIN:
        await someone.page("/audit?tenant=beta", 404)


async def test_what_vendors_and_tenants_say_stays_text(api: Api) -> None:
    await fill(api.parts, ["acme"], says=lambda _: Reason.CREDENTIAL_REJECTED, error=HOSTILE)
    await configured(api, "zeta")
    await outage(api, HOSTILE)
    await outage(api, HOSTILE, closed=True)
    await api.parts.maintenance.add(
        actor="test", starts_ms=0, ends_ms=api.parts.clock.now_ms() + 60_000, tenant="acme", note=HOSTILE
    )
    someone = await browser(api)
    paths = ("/", "/tenants/acme", "/tenants/zeta/connectors/github", "/connectors/slack", "/incidents", "/maintenance")
    for path in paths:
        page = await someone.page(path)
        outline(page)
        assert not [one for one in page.all("img") if one.attributes.get("src") == "x"]
        assert path == "/" or HOSTILE in page.one("main").text
    for query in (f"/?prefix={'%22%3E%3Cscript%3E'}", "/?connector=%3Cb%3E", "/audit?tenant=%22onx%3D1"):
        outline(await someone.page(query, 404 if "audit" in query else 200))


async def test_ids_with_special_letters_are_quoted_in_addresses(api: Api) -> None:
    await fill(api.parts, ["acme:eu@prod"], says=lambda _: Reason.CREDENTIAL_REJECTED)
    someone = await browser(api)
    links = {one.attributes["href"] for one in (await someone.page("/")).all("a")}
    assert "/tenants/acme%3Aeu%40prod#slack" in links
    page = await someone.page("/tenants/acme%3Aeu%40prod")
    assert page.one("h1").text == "acme:eu@prod"
    assert page.one("body").attributes["data-stream"] == "/v1/tenants/acme%3Aeu%40prod/transitions/stream"


async def test_a_fragment_is_the_main_part_alone_of_the_same_page(api: Api) -> None:
    await fill(api.parts, ["acme"])
    someone = await browser(api)
    for path in PAGES[:2]:
        whole, part = await someone.page(path), parsed(await (await someone.get(path, fragment=True)).text())
        assert part.elements[0].tag == "main"
        assert not part.all("html")
        assert part.one("main").attributes.keys() == whole.one("main").attributes.keys()
        assert part.one("h1").text == whole.one("h1").text
    lost = await someone.get("/tenants/nobody", fragment=True)
    assert (lost.status, parsed(await lost.text()).elements[0].tag) == (404, "main")


async def test_a_fragment_that_many_wait_for_is_made_once(api: Api) -> None:
    await fill(api.parts, ["acme"])
    crowd = [await browser(api, role) for role in Role]
    answers = await asyncio.gather(*(someone.get("/", fragment=True) for someone in crowd * 5))
    assert len({await answer.text() for answer in answers}) == 1
    assert await (await crowd[0].get("/?trouble=1", fragment=True)).text() != await answers[0].text()


async def test_the_overview_says_who_is_broken_whose_fault_it_is_and_what_to_do(api: Api) -> None:
    await fill(
        api.parts,
        ["acme", "beta", "zeta"],
        says=lambda pair: Reason.CREDENTIAL_REJECTED if pair == ("slack", "beta") else Reason.OK,
    )
    await outage(api, "no usable answer in 60% of the checks, for about 12 tenants")
    page = await (await browser(api)).page("/")
    assert page.one("h1").text == "1 tenant cannot use a connector"
    banner = page.one("section", class_="banner vendor").text
    assert "slack is down" in banner
    assert "the vendor’s fault" in banner
    assert "No usable answer in 60% of the checks" in banner
    (cause,) = [one for one in page.all("li") if "cause" in one.classes]
    for words in ("credential rejected", "the tenant must act", "1 pair", "beta", "re-install the Slack app"):
        assert words in cause.text


async def test_a_tenants_page_tells_everything_of_a_broken_pair(api: Api) -> None:
    await fill(
        api.parts,
        ["acme"],
        says=lambda pair: Reason.PERMISSION_DENIED if pair.connector == "slack" else Reason.OK,
        error="missing_scope: users:read",
    )
    page = await (await browser(api)).page("/tenants/acme")
    first = page.all("article")[0]
    assert first.attributes["id"] == "slack"
    for words in (
        "unhealthy",
        "permission denied",
        "the tenant must act",
        "Ask the tenant to grant the missing permission",
        "missing_scope: users:read",
        "auth",
        "fail",
        "80 ms",
        "4\N{NARROW NO-BREAK SPACE}200 of 5\N{NARROW NO-BREAK SPACE}000 left",
        "days left",
    ):
        assert words in first.text, words
    assert [one.attributes["id"] for one in page.all("article")] == ["slack", "github", "gitlab", "linear", "vertex"]


async def test_what_a_check_says_before_it_counts_is_shown_apart(api: Api) -> None:
    await fill(api.parts, ["acme"])
    await fill(api.parts, ["acme"], ["slack"], says=lambda _: Reason.VENDOR_ERROR)
    page = await (await browser(api)).page("/tenants/acme")
    (slack,) = [one for one in page.all("article") if one.attributes["id"] == "slack"]
    assert "healthy" in slack.classes
    assert "The newest check says unhealthy, vendor error" in " ".join(slack.text.split())


async def test_check_now_leads_back_to_the_tenants_page(api: Api) -> None:
    await fill(api.parts, ["acme"])
    await configured(api)
    someone = await browser(api, Role.OPERATOR)
    button = (await someone.page("/tenants/acme")).all("form", action="/tenants/acme/connectors/github/check")
    assert len(button) == 1
    answer = await someone.post("/tenants/acme/connectors/github/check")
    assert (answer.status, answer.headers["Location"]) == (303, "/tenants/acme?checked=github#github")
    assert "was checked" in (await someone.page("/tenants/acme?checked=github")).one("p", class_="notice").text
    assert (await someone.post("/tenants/acme/connectors/github/check", site="cross-site")).status == 403
    reader = await browser(api, Role.READER)
    assert (await reader.post("/tenants/acme/connectors/github/check")).status == 403
    assert not [one for one in (await reader.page("/tenants/acme")).all("form") if "check" in str(one.attributes)]


async def test_a_sealed_secret_is_never_shown(api: Api) -> None:
    await configured(api)
    answer = await (await browser(api)).get("/tenants/acme/connectors/github")
    text = await answer.text()
    assert "sealed: it is never shown" in text
    assert "the-clear-token" not in text
    assert "enc://" not in text


async def test_maintenance_is_announced_and_ended_by_forms(api: Api) -> None:
    await configured(api)
    someone = await browser(api, Role.OPERATOR)
    refused = await someone.post("/maintenance", {"connector": "fax", "hours": "4", "note": "kept as entered"})
    assert refused.status == 422
    form = parsed(await refused.text())
    assert "there is none of that name" in form.one("p", role="alert").text
    assert form.one("input", name="note").attributes["value"] == "kept as entered"
    last = {"hours": "168", "connector": "slack", "starts": "9999-12-31T23:59"}
    for bad in ({"hours": "x", "connector": "slack"}, {"hours": "4"}, {"hours": "999", "connector": "slack"}, last):
        assert (await someone.post("/maintenance", bad)).status == 422
    done = await someone.post(
        "/maintenance", {"connector": "github", "tenant": "acme", "hours": "4", "starts": "2099-01-01T10:00"}
    )
    assert (done.status, done.headers["Location"]) == (303, "/maintenance")
    (window,) = await api.parts.maintenance.windows()
    assert window.as_dict()["starts"] == "2099-01-01T10:00:00.000Z"
    assert (await someone.post(f"/maintenance/{window.id}/end", site="cross-site")).status == 403
    assert (await someone.post(f"/maintenance/{window.id}/end")).status == 303
    assert await api.parts.maintenance.windows() == ()
    assert (await (await browser(api, Role.READER)).post("/maintenance", {"connector": "slack"})).status in (403, 422)


async def test_incidents_that_are_over_come_page_by_page(api: Api) -> None:
    incident = await outage(api, "the last one")
    for number in range(60):
        public = json.dumps(replace(incident, explanation=f"number {number}").as_dict())
        await api.parts.redis.xadd(keys.INCIDENT_LOG, {"event": "closed", "incident": public})
    someone = await browser(api)
    first = await someone.page("/incidents")
    assert "number 59" in first.one("main").text
    assert "The last one" in first.one("section", class_="banner vendor").text
    second = await someone.page(first.one("a", rel="next").attributes["href"])
    assert "number 9" in second.one("main").text
    assert not second.all("a", rel="next")
    assert (await someone.get("/incidents?before=nonsense")).status == 422


async def test_static_files_have_their_types_and_may_be_kept(api: Api) -> None:
    page = await (await browser(api)).page("/")
    addresses = [one.attributes["href"] for one in page.all("link")] + [
        one.attributes["src"] for one in page.all("script")
    ]
    types = {"css": ("text/css",), "svg": ("image/svg+xml",), "js": ("text/javascript", "application/javascript")}
    assert len(addresses) == 4
    for address in addresses:
        answer = await api.ask("GET", address)
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.content_type in types[address.partition("?")[0].rpartition(".")[2]]
        bare = await api.ask("GET", address.partition("?")[0], headers={"If-None-Match": answer.headers["ETag"]})
        assert (bare.status, bare.headers["Cache-Control"]) == (304, "no-cache")
    assert (await api.ask("GET", "/static/../app.py")).status == 404
    assert (await api.ask("GET", "/static/nothing.js")).status == 404


async def test_pages_are_never_kept_and_say_how_they_may_be_used(api: Api) -> None:
    answer = await (await browser(api)).get("/incidents")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "script-src 'self'; style-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "same-origin"  # else a form's request would not tell its origin


async def test_a_mistyped_address_is_a_page_for_people_and_a_document_for_programs(api: Api) -> None:
    person = await api.ask("GET", "/tenant", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (person.status, person.content_type) == (404, "text/html")
    outline(parsed(await person.text()))
    program = await api.ask("GET", "/tenant")
    assert (program.status, program.content_type) == (404, "application/problem+json")
    assert (await program.json())["code"] == "not_found"


async def test_what_redis_does_not_answer_in_time_is_no_page_of_zeros(start_api: StartApi, settings: Settings) -> None:
    api = await start_api(settings.model_copy(update={"read_timeout": 1e-6}))
    someone = await browser(api)
    for path in ("/", "/tenants/acme", "/connectors/slack"):
        page = await someone.page(path, 503)
        outline(page)
        assert page.one("h1").text == "Service Unavailable"


async def test_an_allowance_that_is_used_up_is_said_on_a_page(start_api: StartApi, settings: Settings) -> None:
    api = await start_api(settings.model_copy(update={"api_burst": 20.0, "api_rate": 0.001}))
    someone = await browser(api)
    answers = [await someone.get("/incidents") for _ in range(21)]
    assert (answers[0].status, answers[-1].status) == (200, 429)
    assert "allowance is used up" in parsed(await answers[-1].text()).one("p", class_="lead").text
