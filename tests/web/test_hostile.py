"""What a hostile tenant with an admin's token, or nobody at all, tries at the API."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any

import pytest

from registry import keys
from registry.audit import Action
from registry.health import Reason
from registry.incidents import Incident, IncidentKind, dump
from registry.roles import Role
from registry.web.guard import cookie_name, sign_in, sign_out
from registry.web.shield import HEADERS
from tests.fixtures_web import Api, StartApi
from tests.web.test_matrix import TABLE
from tests.web.world import FOREIGN, OWN, World


async def denials(api: Api) -> list[dict[str, Any]]:
    """The refusals in the audit log."""
    rows = [record.as_dict() for record in await api.parts.audit.sink.records()]
    return [row for row in rows if row["action"] == Action.ACCESS_DENIED.value]


MARK = "only-of-the-foreign-tenant"


async def test_nothing_that_a_tenant_reads_names_another(world: World) -> None:
    parts = world.api.parts
    await world.record(Reason.OK)
    await world.record(Reason.CREDENTIAL_REJECTED, tenant=FOREIGN)
    ends = parts.clock.now_ms() + 3_600_000
    await parts.maintenance.add(actor=MARK, starts_ms=1, ends_ms=ends, tenant=FOREIGN, note=MARK)
    incident = Incident(IncidentKind.OUTAGE, "github|x", 1, 2, 7, f"{MARK} {FOREIGN}")
    await parts.redis.hset(keys.INCIDENTS, incident.id, dump(incident))
    await world.ask("GET", f"/v1/tenants/{OWN}/health", Role.READER, FOREIGN)
    for operation in TABLE:
        method, _, path = operation.partition(" ")
        if method != "GET" or path.endswith("stream"):
            continue
        url = path.format(tenant=OWN, connector="github", name="github")
        for query in ("", f"?tenant_id={OWN}", f"?tenant={OWN}", f"?tenant_id={FOREIGN}", f"?tenant={FOREIGN}"):
            found = await world.ask("GET", url + query, Role.ADMIN, OWN)
            assert FOREIGN not in found.text, (url, query)
            assert MARK not in found.text, (url, query)


async def test_two_ways_to_name_a_tenant_are_one(world: World) -> None:
    for url in (
        f"/connectors/health?tenant_id={OWN}&tenant_id={FOREIGN}",
        f"/connectors/health?tenant_id={FOREIGN}",
        f"/v1/audit?tenant={OWN}&tenant={FOREIGN}",
        f"/v1/tenants/{OWN}/../{FOREIGN}/health",
        f"/v1/tenants/{OWN}%2f..%2f{FOREIGN}/health",
        f"/v1/tenants/{FOREIGN.upper()}/health",
        f"/v1/tenants/{OWN}%00{FOREIGN}/health",
        f"/v1/tenants/{FOREIGN}%20/health",
    ):
        found = await world.ask("GET", url, Role.ADMIN, OWN)
        assert found.status == 404, url


async def test_every_answer_is_told_to_browsers_as_harmless(world: World, start_api: StartApi) -> None:
    small = await start_api(world.api.parts.settings.model_copy(update={"api_body": 1_024}))
    answers = [
        await world.api.ask("GET", "/livez"),
        await world.api.ask("GET", "/nothing"),
        await world.api.ask("GET", "/v1/me"),
        await world.api.ask("PUT", "/livez"),
        await world.api.ask("OPTIONS", "/v1/me", headers={"Origin": "https://evil.example"}),
        await world.api.ask("GET", "/v1/openapi.json", headers={"Origin": "https://evil.example"}),
        await small.ask("PUT", f"/v1/tenants/{OWN}/connectors/github/config", data=b"x" * 5_000),
        await world.api.ask("GET", "/v1/me", await world.token()),
    ]
    assert [answer.status for answer in answers] == [200, 404, 401, 405, 405, 200, 413, 200]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
        assert "Server" not in answer.headers
    assert answers[-1].headers["Cache-Control"] == "no-store"


async def test_a_bug_is_told_to_nobody_but_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> int:
        raise ZeroDivisionError("something-internal")

    monkeypatch.setattr(world.api.site.registry, "list", broken)
    monkeypatch.setattr(world.api.parts.catalog, "list", broken)
    caplog.set_level(logging.ERROR)
    found = await world.ask("GET", "/connectors/health")
    assert (found.status, found.body["code"]) == (500, "internal")
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert "something-internal" not in found.text
    assert "ZeroDivisionError" not in found.text


@pytest.mark.parametrize(
    "host", ["evil.example/x?", "evil.example/x#", "a b", "", "x\\y", "[::1", "localhost:99999999"]
)
async def test_a_host_does_not_change_what_a_request_costs_or_is(world: World, host: str) -> None:
    few = world.api.parts.settings.model_copy(update={"api_burst": 20.0, "api_rate": 0.001})
    world.api.site.allowance = type(world.api.site.allowance)(few.api_burst, few.api_rate)
    token = await world.token(Role.OPERATOR, OWN)
    path = f"/v1/tenants/{OWN}/connectors/github/check?max_age=9999"
    statuses = [(await world.api.ask("POST", path, token, headers={"Host": host})).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    await world.api.ask("GET", "/v1/audit", headers={"Host": host})
    assert [row["detail"]["request"] for row in await world.audited(Action.ACCESS_DENIED)] == ["GET /v1/audit"]


@pytest.mark.parametrize(
    "spelled",
    ["x" * 8_000, "1.2.3.4\x1b[31m", "fe80::1%eth0", "2001:db8::1", "::ffff:1.2.3.4", "nobody, 203.0.113.9", ""],
)
async def test_an_address_is_an_address(api: Api, spelled: str) -> None:
    await api.ask("GET", "/v1/me", headers={"X-Forwarded-For": spelled.replace("\x1b", "")})
    (row,) = await denials(api)
    assert re.fullmatch(r"address:([0-9a-f.:]+(/64)?|unknown)", row["actor"])
    for key in await api.parts.redis.keys(f"{keys.PREFIX}:throttle:*"):
        assert len(key) < 100


async def test_many_addresses_of_one_network_are_one(api: Api) -> None:
    for last in range(30):
        await api.ask("GET", "/v1/me", headers={"X-Forwarded-For": f"2001:db8::{last:x}"})
    rows = await denials(api)
    assert 10 <= len(rows) <= 13
    assert {row["actor"] for row in rows} == {"address:2001:db8::/64"}


async def test_one_who_is_known_cannot_hide_behind_the_crowd(world: World) -> None:
    for last in range(30):
        await world.api.ask("GET", "/v1/me", headers={"X-Forwarded-For": f"203.0.113.{last}"})
    for _ in range(12):
        await world.api.ask("GET", "/v1/me")
    await world.ask("GET", f"/v1/tenants/{FOREIGN}/health", Role.ADMIN, OWN)
    assert "another tenant" in [row["detail"]["why"] for row in await world.audited(Action.ACCESS_DENIED)]


@pytest.mark.parametrize(
    "given",
    [
        "Bearer ",
        "Bearer x",
        "Basic eDp5",
        "crt_x",
        "Bearer crt_0123456789ab_" + "a" * 43,
        "Bearer " + "crt_" * 5_000,
        "Bearer é",
        "bearer\tx",
        "Bearer crt_0123456789ab_" + "a" * 43 + " x",
        "Bearer  ",
    ],
)
async def test_what_is_no_token_opens_nothing(world: World, given: str) -> None:
    found = await world.api.ask("GET", "/v1/me", headers={"Authorization": given})
    assert found.status in (401, 431)
    assert "aaaa" not in await found.text()
    if found.status == 401:
        assert found.headers["WWW-Authenticate"] == "Bearer"


async def test_a_session_is_of_one_site_and_ends(world: World) -> None:
    token, site = await world.token(Role.ADMIN, OWN), world.api.site
    session = await sign_in(site, token)
    port = world.api.url.rpartition(":")[2]
    cookie = {"Cookie": f"session_{port}={session}"}
    assert cookie_name.__doc__
    assert (await world.api.ask("GET", "/v1/me", headers=cookie)).status == 200
    check = f"/v1/tenants/{OWN}/connectors/github/check?max_age=9999"
    own = world.api.url.removeprefix("http://")
    for headers, status in (
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": f"http://{own}"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": f"http://{own}"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": f"http://{own}.evil.example"}, 403),
        ({"Origin": f"http://evil.example#{own}"}, 403),
        ({}, 403),
    ):
        assert (await world.api.ask("POST", check, headers=cookie | headers)).status == status, headers
    denied = [row for row in await world.audited(Action.ACCESS_DENIED) if "another site" in row["detail"]["why"]]
    assert {row["actor"] for row in denied} == {f"token:{token.split('_')[1]}"}
    kept = str(await world.api.parts.redis.keys("*session*"))
    assert "session" in kept
    assert session not in kept
    await world.api.parts.access.revoke(token.split("_")[1], actor="test")
    assert (await world.api.ask("GET", "/v1/me", headers=cookie)).status == 401, "it stands for a token, no more"
    await sign_out(site, session)
    assert not await world.api.parts.redis.keys("*session*")


async def test_one_allowance_for_a_token_and_its_sessions(world: World) -> None:
    token = await world.token(Role.READER, OWN)
    port = world.api.url.rpartition(":")[2]
    world.api.site.allowance = type(world.api.site.allowance)(3, 0.001)
    statuses = []
    for _ in range(5):
        session = await sign_in(world.api.site, token)
        cookie = {"Cookie": f"session_{port}={session}"}
        statuses.append((await world.api.ask("GET", "/v1/me", headers=cookie)).status)
    assert statuses == [200, 200, 200, 429, 429]


async def test_no_pattern_takes_for_ever(world: World) -> None:
    evil = ["a" * 30_000 + "!", "a." * 15_000 + "!", "1-" * 15_000, "crt_" + "0" * 30_000, "é" * 8_000, "%" * 30_000]
    began = time.process_time()
    for text in evil:
        for url in (f"/v1/pairs?prefix={text}", f"/v1/incidents/log?before={text}", f"/v1/connectors/{text}"):
            await world.ask("GET", url)
        await world.api.ask("GET", "/v1/me", headers={"If-None-Match": text, "Cookie": text, "Last-Event-ID": text})
    assert time.process_time() - began < 10, "seconds of CPU for what takes milliseconds each"


async def test_tags_tell_nothing_that_the_verdict_does_not(world: World) -> None:
    await world.record(Reason.OK)
    path, other = (f"/v1/tenants/{tenant}/connectors/github/health" for tenant in (OWN, FOREIGN))
    own = await world.ask("GET", path, Role.READER, OWN)
    await world.record(Reason.CREDENTIAL_REJECTED, tenant=FOREIGN)
    again = await world.ask("GET", path, Role.READER, OWN)
    assert own.headers["ETag"] == again.headers["ETag"]
    stolen = {"If-None-Match": (await world.ask("GET", other)).headers["ETag"]}
    refused = await world.ask("GET", other, Role.ADMIN, OWN, headers=stolen)
    assert refused.status == 404


async def test_what_is_logged_is_one_line_without_anybodys_escapes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await world.api.ask("GET", "/%0d%0aERROR%20forged%1b%5b31m")
    await world.api.ask("GET", "/v1/tenants/%0d%0aforged%1b/health", await world.token(Role.ADMIN, OWN))
    text = caplog.text + json.dumps(await world.audited(Action.ACCESS_DENIED))
    assert "\x1b" not in text
    assert "\\u001b" not in text
    assert "\nforged" not in text
