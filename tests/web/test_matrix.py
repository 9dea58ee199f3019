"""Role, route and tenant: who gets what, for every operation there is.

The operations are those of the API's own description; one that `TABLE` does not know fails the test.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import product

import pytest

from registry.health import Reason
from registry.ids import Pair
from registry.roles import Right, Role
from registry.web.app import create_app
from tests.fixtures_web import Api
from tests.web.world import FOREIGN, NOBODY, OWN, World

Scope = str | None
"""A token's tenant; None: every one."""

OF_TENANT, OF_ALL, ANYBODY, KNOWN = "of a tenant", "of all", "anybody", "known"


@dataclass(frozen=True)
class Row:
    """One operation: whom it is about, which right it needs, how it is called, and what it says to who may."""

    about: str
    right: Right = Right.READ
    well: tuple[int, ...] = (200,)
    query: str = ""
    body: str = ""
    missing: tuple[int, ...] = (404,)
    """What is said where there is no such tenant to who sees all of them."""


PAIR = "/v1/tenants/{tenant}/connectors/{connector}"

TABLE = {
    "GET /livez": Row(ANYBODY),
    "GET /readyz": Row(ANYBODY),
    "GET /metrics": Row(OF_ALL),
    "GET /connectors/health": Row(OF_TENANT, query="tenant_id={tenant}"),
    "GET /connectors/{name}/health": Row(OF_TENANT, query="tenant_id={tenant}"),
    "GET /v1/me": Row(KNOWN),
    "GET /v1/connectors": Row(KNOWN),
    "GET /v1/connectors/{name}": Row(KNOWN),
    "GET /v1/tenants": Row(OF_ALL),
    "GET /v1/pairs": Row(OF_ALL),
    "GET /v1/tenants/{tenant}/health": Row(OF_TENANT),
    f"GET {PAIR}/health": Row(OF_TENANT),
    f"GET {PAIR}/history": Row(OF_TENANT),
    f"POST {PAIR}/check": Row(OF_TENANT, Right.CHECK),
    f"GET {PAIR}/config": Row(OF_TENANT, Right.INSPECT),
    f"GET {PAIR}/config/revisions": Row(OF_TENANT, Right.INSPECT),
    f"PUT {PAIR}/config": Row(OF_TENANT, Right.CONFIGURE, body="config", missing=(412,)),
    f"DELETE {PAIR}/config": Row(OF_TENANT, Right.CONFIGURE, (204,)),
    f"POST {PAIR}/config/test": Row(OF_TENANT, Right.CONFIGURE, body="config", missing=(200,)),
    "GET /v1/tenants/{tenant}/transitions": Row(OF_TENANT),
    "GET /v1/tenants/{tenant}/transitions/stream": Row(OF_TENANT, missing=(200,)),
    "GET /v1/transitions/stream": Row(OF_ALL),
    "GET /v1/incidents": Row(OF_ALL),
    "GET /v1/incidents/log": Row(OF_ALL),
    "GET /v1/maintenance": Row(KNOWN),
    "POST /v1/maintenance": Row(OF_TENANT, Right.MAINTAIN, (201,), body="window"),
    "DELETE /v1/maintenance/{window}": Row(OF_TENANT, Right.MAINTAIN, (204,)),
    "GET /v1/audit": Row(OF_TENANT, Right.AUDIT, query="tenant={tenant}", missing=(200,)),
}
"""The dashboard's pages and its session are no part of the description, and have tests of their own."""


def test_every_operation_is_in_the_table(api: Api) -> None:
    described = create_app(api.parts).openapi()["paths"]
    operations = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    assert operations == set(TABLE)


def expected(row: Row, role: Role | None, scope: Scope, tenant: str) -> tuple[int, ...]:
    """What an operation answers to a token about a tenant."""
    if row.about == ANYBODY:
        return row.well
    if role is None:
        return (401,)
    if row.about == OF_TENANT and scope is not None and tenant != scope:
        return (404,)
    if row.about == OF_ALL and scope is not None:
        return (403,)
    if row.right not in role.rights:
        return (403,)
    return row.missing if row.about == OF_TENANT and tenant == NOBODY else row.well


CASES = list(product(TABLE, (OWN, FOREIGN, NOBODY)))


@pytest.mark.parametrize("role", [None, *Role], ids=lambda role: role or "nobody")
@pytest.mark.parametrize("scope", [None, OWN], ids=["everybody", "own"])
async def test_who_gets_what(world: World, role: Role | None, scope: Scope) -> None:
    wrong = {}
    for operation, tenant in CASES:
        row = TABLE[operation]
        if row.about != OF_TENANT and tenant != OWN:
            continue
        status, _ = await call(world, operation, role, scope, tenant)
        if status not in expected(row, role, scope, tenant):
            wrong[operation, tenant] = (status, expected(row, role, scope, tenant))
    assert wrong == {}


@pytest.mark.parametrize("role", list(Role))
async def test_another_tenant_and_none_are_the_same_answer(world: World, role: Role) -> None:
    differing = {}
    for operation in (name for name, row in TABLE.items() if row.about == OF_TENANT):
        foreign = await call(world, operation, role, OWN, FOREIGN)
        nobody = await call(world, operation, role, OWN, NOBODY)
        if foreign != nobody or foreign[0] != 404:
            differing[operation] = (foreign, nobody)
    assert differing == {}


async def call(
    world: World, operation: str, role: Role | None, scope: Scope, tenant: str
) -> tuple[int, dict[str, str] | str]:
    """The status, and all else that the answer says but the time. Where something is to be there, it is."""
    method, _, path = operation.partition(" ")
    row = TABLE[operation]
    if row.right in (Right.CONFIGURE, Right.CHECK) and tenant != NOBODY:
        await world.api.parts.configurations.set(Pair("github", tenant), world.config("github", tenant), actor="test")
    if row.about == OF_TENANT and row.right is Right.READ and tenant != NOBODY:
        await world.record(Reason.OK, tenant=tenant)
    window = "0123456789ab"
    if "{window}" in path and tenant != NOBODY:
        ends = world.api.parts.clock.now_ms() + 3_600_000
        made = await world.api.parts.maintenance.add(actor="t", starts_ms=1, ends_ms=ends, tenant=tenant)
        window = made.id
    url = path.format(tenant=tenant, connector="github", name="github", window=window)
    url += f"?{row.query.format(tenant=tenant)}" if row.query else ""
    bodies = {"config": world.config(), "window": {"tenant": tenant, "ends": tomorrow()}, "": None}
    token = await world.token(role, scope) if role else None
    headers = {"If-Match": "*"} | ({"Authorization": f"Bearer {token}"} if token else {})
    async with world.api.http.request(method, world.api.url + url, headers=headers, json=bodies[row.body]) as answer:
        told = {name.lower(): value for name, value in answer.headers.items() if name != "Date"}
        if answer.content_type == "text/event-stream":
            return answer.status, told
        return answer.status, str(told) + await answer.text()


def tomorrow() -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).isoformat()
