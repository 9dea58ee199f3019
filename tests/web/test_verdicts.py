"""Verdicts, histories and lists by HTTP: conditional, paged, waited for, and never by calling a vendor."""

from __future__ import annotations

import asyncio

import pytest

from registry.health import Reason
from registry.ids import Pair
from registry.roles import Role
from tests.web.world import FOREIGN, NOBODY, OWN, World, soon

GITHUB = f"/v1/tenants/{OWN}/connectors/github"


async def test_a_verdict_comes_with_a_tag_and_not_twice(world: World) -> None:
    await world.record(Reason.OK)
    first = await world.ask("GET", f"{GITHUB}/health", Role.READER)
    assert (first.status, first.body["status"], first.body["tenant_id"]) == (200, "healthy", OWN)
    known = {"If-None-Match": f'"other", {first.headers["ETag"]}'}
    again = await world.ask("GET", f"{GITHUB}/health", Role.READER, headers=known)
    assert (again.status, again.text, again.headers["ETag"]) == (304, "", first.headers["ETag"])
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"] == "private, no-cache"
    await world.record(Reason.CREDENTIAL_REJECTED)
    newer = await world.ask("GET", f"{GITHUB}/health", Role.READER, headers=known)
    assert (newer.status, newer.body["status"], newer.body["fault"]) == (200, "unhealthy", "tenant")
    assert newer.headers["ETag"] != first.headers["ETag"]


async def test_what_is_older_than_wanted_is_unknown_and_nothing_is_checked(world: World) -> None:
    await world.record(Reason.OK)
    old = await world.ask("GET", f"{GITHUB}/health?max_age=0", Role.READER)
    assert (old.body["status"], old.body["reason"], old.body["last_known"]) == ("unknown", "stale", "healthy")
    assert (await world.ask("GET", f"{GITHUB}/health?max_age=1000", Role.READER)).body["status"] == "healthy"
    assert world.vendors.requests.total() == 0


async def test_another_version_is_waited_for(world: World) -> None:
    await world.record(Reason.OK)
    version = (await world.ask("GET", f"{GITHUB}/health")).body["version"]
    same = await world.ask("GET", f"{GITHUB}/health?version={version}&wait=0")
    assert (same.status, same.headers["Cache-Control"]) == (304, "private, no-cache")
    waiting = asyncio.create_task(world.ask("GET", f"{GITHUB}/health?version={version}&wait=20"))
    await world.record(Reason.CREDENTIAL_REJECTED)
    found = await soon(waiting)
    assert (found.status, found.body["reason"]) == (200, "credential_rejected")
    assert found.body["version"] > version


async def test_a_tenants_verdicts_are_one_page(world: World) -> None:
    await world.record(Reason.OK)
    await world.record(Reason.SLOW, "slack")
    page = await world.ask("GET", f"/v1/tenants/{OWN}/health", Role.READER, OWN)
    assert page.body["healthy"] is True
    assert page.body["counts"] == {"healthy": 1, "degraded": 1, "unhealthy": 0, "unknown": 0}
    assert set(page.body["connectors"]) == {"github", "slack"}
    assert (await world.ask("GET", f"/v1/tenants/{NOBODY}/health")).status == 404


@pytest.mark.parametrize(
    ("reason", "status"), [(Reason.OK, 200), (Reason.SLOW, 200), (Reason.CREDENTIAL_REJECTED, 503), (None, 503)]
)
async def test_one_connectors_status_is_that_of_the_answer(world: World, reason: Reason | None, status: int) -> None:
    if reason:
        await world.record(reason)
    found = await world.ask("GET", f"/connectors/github/health?tenant_id={OWN}", Role.READER)
    assert found.status == status
    assert found.headers["Content-Type"] == "application/json"
    assert (await world.ask("GET", "/livez")).status == 200


async def test_a_history_tells_what_was(world: World) -> None:
    await world.record(Reason.OK)
    await world.record(Reason.CREDENTIAL_REJECTED)
    past = await world.ask("GET", f"{GITHUB}/history", Role.READER)
    assert [turn["status"] for turn in past.body["transitions"]] == ["unhealthy", "healthy"]
    assert set(past.body["windows"]) == {"24h", "7d", "30d"}
    assert (await world.ask("GET", f"/v1/tenants/{OWN}/connectors/vertex/history")).status == 404


async def test_tenants_are_paged_and_searched(world: World) -> None:
    first = await world.ask("GET", "/v1/tenants?limit=1", Role.READER)
    second = await world.ask("GET", f"/v1/tenants?limit=1&after={first.body['after']}", Role.READER)
    assert [row["id"] for row in first.body["items"] + second.body["items"]] == sorted((OWN, FOREIGN))
    assert second.body["after"] is None
    found = await world.ask("GET", f"/v1/tenants?prefix={FOREIGN[:-1]}", Role.READER)
    assert FOREIGN in [row["id"] for row in found.body["items"]]
    assert (await world.ask("GET", "/v1/tenants?prefix=zzz")).body == {"items": [], "after": None}
    assert (await world.ask("GET", "/v1/tenants?limit=0")).status == 422


async def test_pairs_are_picked_by_what_they_are(world: World) -> None:
    await world.record(Reason.OK)
    await world.record(Reason.CREDENTIAL_REJECTED, "slack")
    for query, wanted in (
        ("status=unhealthy", {("slack", OWN)}),
        ("reason=ok", {("github", OWN)}),
        ("connector=slack", {("slack", OWN), ("slack", FOREIGN)}),
        (f"prefix={OWN}&connector=slack&connector=github", {("slack", OWN), ("github", OWN)}),
        ("status=healthy&status=unhealthy", {("github", OWN), ("slack", OWN)}),
    ):
        found = await world.ask("GET", f"/v1/pairs?{query}", Role.READER)
        assert {(row["connector"], row["tenant_id"]) for row in found.body["items"]} == wanted, query
    assert (await world.ask("GET", "/v1/pairs?status=sick")).status == 422


async def test_connectors_tell_what_they_take(world: World) -> None:
    listed = await world.ask("GET", "/v1/connectors", Role.READER, OWN)
    assert {row["name"] for row in listed.body["items"]} == {"github", "gitlab", "linear", "slack", "vertex"}
    assert all(row["usable"] and row["service"]["tenant_id"] is None for row in listed.body["items"])
    one = await world.ask("GET", "/v1/connectors/github", Role.READER, OWN)
    assert one.body["manifest"]["name"] == "github"
    assert one.body["config_schema"]["properties"]["auth"]
    for unknown in ("fax", "FAX", "..", "%00"):
        assert (await world.ask("GET", f"/v1/connectors/{unknown}")).status in (404, 422), unknown


async def test_a_token_tells_whose_it_is(world: World) -> None:
    found = await world.ask("GET", "/v1/me", Role.OPERATOR, OWN)
    assert {name: found.body[name] for name in ("role", "tenant", "rights")} == {
        "role": "operator",
        "tenant": OWN,
        "rights": ["check", "inspect", "maintain", "read"],
    }


async def test_metrics_are_those_of_the_publisher(world: World) -> None:
    await world.record(Reason.OK)
    found = await world.ask("GET", "/metrics", Role.READER)
    assert found.headers["Content-Type"].startswith("text/plain")
    assert f'registry_connector_health{{connector="github",tenant_id="{OWN}"}} 1.0' in found.text
    assert (await world.ask("GET", "/metrics", Role.ADMIN, OWN)).status == 403


async def test_no_get_calls_a_vendor(world: World) -> None:
    pair = Pair("github", OWN)
    await world.api.parts.schedule.put(pair, 9, None, base_url="x", reset=True)
    for path in (
        "/connectors/health",
        f"/connectors/health?tenant_id={OWN}",
        f"/connectors/github/health?tenant_id={OWN}",
        "/v1/connectors",
        f"/v1/tenants/{OWN}/health",
        f"{GITHUB}/health?max_age=0",
        f"{GITHUB}/history",
        f"{GITHUB}/config",
        f"{GITHUB}/config/revisions",
        f"/v1/tenants/{OWN}/transitions",
        "/v1/pairs",
        "/v1/tenants",
        "/v1/incidents",
        "/v1/incidents/log",
        "/v1/maintenance",
        "/v1/audit",
        "/metrics",
        "/readyz",
    ):
        assert (await world.ask("GET", path)).status in (200, 503), path
    assert world.vendors.requests.total() == 0


async def test_a_head_is_that_of_the_get(world: World) -> None:
    await world.record(Reason.OK)
    for path in ("/livez", f"{GITHUB}/health", "/v1/connectors", f"/v1/tenants/{OWN}/transitions/stream"):
        head = await world.ask("HEAD", path, Role.READER)
        assert (head.status, head.text) == (200, ""), path
    full = await world.ask("GET", f"{GITHUB}/health", Role.READER)
    assert (await world.ask("HEAD", f"{GITHUB}/health", Role.READER)).headers["ETag"] == full.headers["ETag"]
    assert (await world.ask("HEAD", "/v1/me", headers={"Authorization": "Bearer x"})).status == 401
