"""Checks on demand by HTTP: once, whoever asks where, within the budgets and the token's allowance."""

from __future__ import annotations

import asyncio

from registry import keys
from registry.health import Reason
from registry.roles import Role
from tests.fixtures_web import StartApi
from tests.web.world import NOBODY, OWN, World

CHECK = f"/v1/tenants/{OWN}/connectors/slack/check"


async def test_a_check_is_made_recorded_and_told(world: World) -> None:
    found = await world.ask("POST", CHECK, Role.OPERATOR, OWN)
    assert (found.status, found.body["status"], found.body["connector"]) == (200, "healthy", "slack")
    assert world.vendors.requests["slack"] >= 1
    read = await world.ask("GET", CHECK.replace("check", "health"), Role.READER, OWN)
    assert read.body["version"] == found.body["version"]


async def test_a_younger_verdict_is_the_answer(world: World) -> None:
    await world.record(Reason.CREDENTIAL_REJECTED, "slack")
    found = await world.ask("POST", f"{CHECK}?max_age=3600", Role.OPERATOR)
    assert found.body["reason"] == "credential_rejected"
    assert world.vendors.requests.total() == 0


async def test_many_ask_at_two_servers_and_one_check_is_made(world: World, start_api: StartApi) -> None:
    token = await world.token(Role.OPERATOR, OWN)
    other = await start_api(world.api.parts.settings)
    world.vendors.script.set(OWN, "slack", "slow")
    answers = await asyncio.gather(*[server.ask("POST", CHECK, token) for server in (world.api, other) * 8])
    versions = {(await answer.json())["version"] for answer in answers}
    assert (len(versions), {answer.status for answer in answers}) == (1, {200})
    journal = [tenant for _, vendor, tenant in world.vendors.journal if vendor == "slack"]
    world.vendors.journal.clear()
    await world.ask("POST", CHECK, Role.OPERATOR, OWN)
    assert journal == [tenant for _, vendor, tenant in world.vendors.journal if vendor == "slack"]


async def test_who_may_not_check_makes_none(world: World) -> None:
    assert (await world.ask("POST", CHECK, Role.READER, OWN)).status == 403
    assert (await world.ask("POST", CHECK.replace(OWN, NOBODY))).status == 404
    assert (await world.ask("POST", CHECK.replace("slack", "vertex"))).status == 404
    assert world.vendors.requests.total() == 0


async def test_a_budget_that_is_used_up_says_when_there_is_room(world: World, start_api: StartApi) -> None:
    budgets = {"vendor_budgets": {"slack": 1}, "budget_window": 600.0}
    few = World(await start_api(world.api.parts.settings.model_copy(update=budgets)), world.vendors)
    await few.api.parts.redis.set(keys.BUDGETS_SINCE, 1)
    first = await few.ask("POST", CHECK, Role.OPERATOR, OWN)
    assert (first.body["status"], first.body["put_off_until"]) == ("healthy", None)
    calls = world.vendors.requests["slack"]
    second = await few.ask("POST", CHECK, Role.OPERATOR, OWN)
    assert (second.status, second.body["status"]) == (200, "healthy")
    assert second.body["put_off_until"]
    tried = await few.ask("POST", CHECK.replace("check", "config/test"), json=world.config("slack"))
    assert (tried.body["reason"], bool(tried.body["put_off_until"])) == ("not_checked", True)
    assert world.vendors.requests["slack"] == calls


async def test_checks_cost_more_than_reads(start_api: StartApi, world: World) -> None:
    few = world.api.parts.settings.model_copy(update={"api_burst": 20.0, "api_rate": 0.001})
    token, unscoped = await world.token(Role.OPERATOR, OWN), await world.token(Role.OPERATOR)
    api = await start_api(few)
    statuses = [(await api.ask("POST", CHECK, token)).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = await api.ask("GET", "/v1/me", token)
    assert (refused.status, (await refused.json())["code"]) == (429, "too_many_requests")
    assert int(refused.headers["Retry-After"]) >= 1
    another = await start_api(few)
    assert (await another.ask("GET", "/v1/me", token)).status == 429, "it is one allowance for all processes"
    assert (await api.ask("GET", "/v1/me", unscoped)).status == 200
