"""Verdicts by HTTP."""

from __future__ import annotations

from registry.health import Reason
from registry.ids import Pair
from registry.recording import Outcome
from registry.roles import Role
from tests.fixtures_history import CONFIG, verdict
from tests.fixtures_web import Api


async def recorded(api: Api, pair: Pair, reason: Reason) -> None:
    await api.parts.schedule.put(pair, 1, CONFIG, reset=False)
    task = await api.parts.schedule.task(pair)
    assert task is not None
    await api.parts.recorder.record([Outcome(task, verdict(reason, api.parts.clock.now_ms() / 1000), "github|x")])


async def test_one_sick_connector_does_not_turn_the_whole(api: Api) -> None:
    await recorded(api, Pair("github", "acme"), Reason.OK)
    await recorded(api, Pair("slack", "acme"), Reason.CREDENTIAL_REJECTED)
    token = await api.token(Role.READER)
    every = await api.ask("GET", "/connectors/health?tenant_id=acme", token)
    body = await every.json()
    assert (every.status, body["healthy"]) == (200, False)
    assert body["counts"] == {"healthy": 1, "degraded": 0, "unhealthy": 1, "unknown": 0}
    assert (await api.ask("GET", "/connectors/github/health?tenant_id=acme", token)).status == 200
    sick = await api.ask("GET", "/connectors/slack/health?tenant_id=acme", token)
    assert (sick.status, (await sick.json())["fault"]) == (503, "tenant")
    assert (await api.ask("GET", "/connectors/vertex/health?tenant_id=acme", token)).status == 404
    assert (await api.ask("GET", "/connectors/fax/health", token)).status == 404
    assert (await api.ask("GET", "/livez")).status == 200
    assert (await api.ask("GET", "/readyz")).status == 200


async def test_the_first_request_of_all_may_be_anybodys(api: Api) -> None:
    assert (await api.ask("GET", "/v1/me")).status == 401
