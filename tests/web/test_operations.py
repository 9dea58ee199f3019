"""Maintenance windows, incidents and the audit log by HTTP, by those who may, for those they may."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
import pytest

from registry import keys
from registry.audit import Action
from registry.incidents import Incident, IncidentKind, dump
from registry.maintenance import Window
from registry.noticeboard import Posted
from registry.roles import Role
from tests.web.world import FOREIGN, NOBODY, OWN, Told, World

HOUR = dt.timedelta(hours=1)


def at(ahead: dt.timedelta) -> str:
    return (dt.datetime.now(dt.UTC) + ahead).isoformat()


async def announce(world: World, role: Role, scope: str | None, **window: Any) -> Told:
    return await world.ask("POST", "/v1/maintenance", role, scope, json={"ends": at(HOUR), **window})


async def listed(world: World, scope: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.ask("GET", "/v1/maintenance", Role.READER, scope)).body["items"]
    return found


async def test_an_operator_of_a_tenant_announces_for_it_alone(world: World) -> None:
    own = await announce(world, Role.OPERATOR, OWN, tenant=OWN, connector="github", note="upgrade")
    assert (own.status, own.body["tenant"], own.body["note"]) == (201, OWN, "upgrade")
    for tenant in (FOREIGN, NOBODY):
        refused = await announce(world, Role.OPERATOR, OWN, tenant=tenant)
        assert (refused.status, refused.body["code"]) == (404, "not_found")
    everybody = await announce(world, Role.OPERATOR, OWN, connector="github")
    assert (everybody.status, everybody.body["code"]) == (403, "tenant_scoped")
    assert (await announce(world, Role.READER, None, tenant=OWN)).status == 403
    assert [window["tenant"] for window in await listed(world)] == [OWN]


async def test_each_tenant_sees_its_windows_and_everybodys(world: World) -> None:
    for window in ({"tenant": OWN}, {"tenant": FOREIGN, "note": "foreign"}, {"connector": "slack"}):
        assert (await announce(world, Role.OPERATOR, None, **window)).status == 201
    assert [(window["tenant"], window["connector"]) for window in await listed(world, OWN)] == [
        (OWN, None),
        (None, "slack"),
    ]
    assert len(await listed(world)) == 3


async def test_a_window_is_ended_by_those_whose_it_is(world: World) -> None:
    own = (await announce(world, Role.OPERATOR, None, tenant=OWN)).body["id"]
    foreign = (await announce(world, Role.OPERATOR, None, tenant=FOREIGN)).body["id"]
    everybodys = (await announce(world, Role.OPERATOR, None, connector="github")).body["id"]
    there = await world.ask("DELETE", f"/v1/maintenance/{foreign}", Role.OPERATOR, OWN)
    nowhere = await world.ask("DELETE", "/v1/maintenance/0123456789ab", Role.OPERATOR, OWN)
    assert (there.status, there.text) == (nowhere.status, nowhere.text) == (404, nowhere.text)
    assert (await world.ask("DELETE", f"/v1/maintenance/{everybodys}", Role.OPERATOR, OWN)).status == 403
    assert (await world.ask("DELETE", f"/v1/maintenance/{own}", Role.READER, OWN)).status == 403
    assert (await world.ask("DELETE", f"/v1/maintenance/{own}", Role.OPERATOR, OWN)).status == 204
    assert {window["id"] for window in await listed(world)} == {foreign, everybodys}


async def test_announcing_and_ending_are_in_the_audit_log(world: World) -> None:
    made = (await announce(world, Role.OPERATOR, OWN, tenant=OWN)).body["id"]
    await world.ask("DELETE", f"/v1/maintenance/{made}", Role.OPERATOR, OWN)
    actor = f"token:{(await world.token(Role.OPERATOR, OWN)).split('_')[1]}"
    for action in (Action.MAINTENANCE_ANNOUNCED, Action.MAINTENANCE_ENDED):
        (row,) = await world.audited(action)
        assert (row["actor"], row["tenant"], row["detail"]["window"]) == (actor, OWN, made)


@pytest.mark.parametrize(
    "window",
    [
        {},
        {"tenant": "acme-77"},
        {"tenant": OWN, "connector": "vertex"},
        {"connector": "fax"},
        {"tenant": OWN, "ends": at(-HOUR)},
        {"tenant": OWN, "ends": "0001-01-01T00:00:00+23:59"},
        {"tenant": OWN, "ends": "9999-12-31T23:59:59-23:59"},
        {"tenant": OWN, "starts": "0001-01-01T00:00:00Z"},
        {"tenant": OWN, "starts": "9999-12-31T23:00:00-12:00", "ends": "9999-12-31T23:30:00-12:00"},
        {"tenant": OWN, "starts": at(2 * HOUR)},
        {"tenant": OWN, "ends": 1e300},
        {"tenant": OWN, "ends": "2030-01-01T00:00:00"},
        {"tenant": OWN, "note": "x" * 201},
        {"tenant": OWN, "note": "\ud800"},
        {"tenant": "*"},
        {"tenant": OWN, "who": "me"},
    ],
    ids=range(16),
)
async def test_what_makes_no_sense_is_refused(world: World, window: dict[str, Any]) -> None:
    refused = await announce(world, Role.ADMIN, None, **window)
    assert refused.status in (404, 422), refused.text
    assert await listed(world) == []


async def test_a_window_beyond_the_calendar_hides_no_other(world: World) -> None:
    beyond = Window(id="beyond", starts_ms=-(10**15), ends_ms=10**18, tenant=OWN)
    await world.api.parts.redis.set(keys.MAINTENANCE, msgspec.json.encode(Posted(1, (beyond,))))
    (window,) = await listed(world)
    assert (window["starts"], window["ends"]) == ("0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.000Z")
    shown = await world.ask("GET", "/maintenance", Role.READER, headers={"Accept": "text/html"})
    assert shown.status == 200
    assert "9999-12-31 23:59:59 UTC" in shown.text


async def test_one_tenant_does_not_use_up_everybodys_windows(world: World) -> None:
    for _ in range(50):
        assert (await announce(world, Role.OPERATOR, OWN, tenant=OWN)).status == 201
    assert (await announce(world, Role.OPERATOR, OWN, tenant=OWN)).status == 422
    assert (await announce(world, Role.OPERATOR, FOREIGN, tenant=FOREIGN)).status == 201


async def test_incidents_are_for_those_who_see_everybody(world: World) -> None:
    redis = world.api.parts.redis
    incident = Incident(IncidentKind.OUTAGE, "github|x", 1_700_000_000_000, 1_700_000_001_000, 7, f"seen by {FOREIGN}")
    await redis.hset(keys.INCIDENTS, incident.id, dump(incident))
    for change in ("opened", "closed", "opened"):
        await redis.xadd(keys.INCIDENT_LOG, {"event": change, "incident": json.dumps(incident.as_dict())})
    opened = await world.ask("GET", "/v1/incidents", Role.READER)
    assert [row["id"] for row in opened.body["items"]] == ["outage:github|x"]
    first = await world.ask("GET", "/v1/incidents/log?limit=2", Role.READER)
    second = await world.ask("GET", f"/v1/incidents/log?limit=2&before={first.body['before']}", Role.READER)
    assert [row["change"] for row in first.body["items"] + second.body["items"]] == ["opened", "closed", "opened"]
    assert second.body["before"] is None
    for path in ("/v1/incidents", "/v1/incidents/log"):
        refused = await world.ask("GET", path, Role.ADMIN, OWN)
        assert (refused.status, refused.body["code"]) == (403, "tenant_scoped")
    assert (await world.ask("GET", "/v1/incidents/log?before=0-00")).body == {"items": [], "before": None}
    for position in ("x", "1", "٣-٣", "1-1-1"):
        assert (await world.ask("GET", f"/v1/incidents/log?before={position}")).status == 422


async def test_the_audit_log_of_a_tenant_is_its_own_without_the_chain(world: World) -> None:
    whole = await world.ask("GET", "/v1/audit", Role.ADMIN)
    assert {"number", "hash", "previous"} <= set(whole.body["items"][0])
    own = await world.ask("GET", "/v1/audit", Role.ADMIN, OWN)
    assert own.body["items"]
    for row in own.body["items"]:
        assert row["tenant"] == OWN
        assert not {"number", "hash", "previous"} & set(row)
    named = await world.ask("GET", f"/v1/audit?tenant={OWN}", Role.ADMIN, OWN)
    assert named.body["items"][0] == own.body["items"][0]
    there = await world.ask("GET", f"/v1/audit?tenant={FOREIGN}", Role.ADMIN, OWN)
    nowhere = await world.ask("GET", f"/v1/audit?tenant={NOBODY}", Role.ADMIN, OWN)
    assert (there.status, there.text) == (404, nowhere.text)
    assert (await world.ask("GET", "/v1/audit", Role.OPERATOR)).status == 403
    assert len((await world.ask("GET", "/v1/audit?limit=1", Role.ADMIN)).body["items"]) == 1


async def test_a_token_in_an_address_is_not_written_down(world: World) -> None:
    token = await world.token(Role.ADMIN, OWN)
    await world.ask("GET", f"/v1/tenants/{token}/health", Role.READER, FOREIGN)
    (row,) = await world.audited(Action.ACCESS_DENIED)
    assert row["detail"]["request"] == "GET /v1/tenants/[masked]/health"


async def test_who_is_turned_away_is_written_down_but_fills_no_log(world: World) -> None:
    for _ in range(40):
        await world.api.ask("GET", "/v1/me")
        await world.ask("GET", f"/v1/tenants/{FOREIGN}/health", Role.READER, OWN)
        await world.ask("GET", "/v1/audit", Role.OPERATOR)
    rows = await world.audited(Action.ACCESS_DENIED)
    assert {(row["actor"].partition(":")[0], row["detail"]["why"]) for row in rows} == {
        ("address", "no token"),
        ("token", "another tenant"),
        ("token", "without the right to audit"),
    }
    assert 3 * 8 <= len(rows) <= 3 * 14, "ten of each at once, and one more every ten seconds"
    denied = [row for row in rows if row["detail"]["why"] == "another tenant"]
    assert {row["tenant"] for row in denied} == {OWN}
    assert (await world.ask("GET", f"/v1/audit?tenant={FOREIGN}", Role.ADMIN, FOREIGN)).text.count("denied") == 0
