"""The API is what it says of itself: its description is whole, its answers are those of its models, whatever is asked.

https://schemathesis.readthedocs.io
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from pydantic import BaseModel
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from registry import keys
from registry.health import Reason
from registry.incidents import Incident, IncidentKind, dump
from registry.web.api import schemas
from registry.web.app import create_app
from tests.fixtures_web import Api
from tests.web.test_matrix import TABLE
from tests.web.world import OWN, World

CONFORMANCE = [response_schema_conformance, content_type_conformance, status_code_conformance]


def operations(api: Api) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in create_app(api.parts).openapi()["paths"].items():
        for method, told in methods.items():
            yield f"{method.upper()} {path}", told


def test_every_operation_says_what_it_does_and_how_it_fails(api: Api) -> None:
    for name, told in operations(api):
        assert told["summary"], name
        assert told["description"], name
        assert told["tags"], name
        if name in ("GET /livez", "GET /readyz"):
            continue
        assert {"401", "422", "429", "503"} <= set(told["responses"]), name
        for status, answer in told["responses"].items():
            if int(status) >= 400 and (name, status) != ("GET /connectors/{name}/health", "503"):
                assert set(answer["content"]) == {"application/problem+json"}, (name, status)


def test_every_parameter_says_what_it_is(api: Api) -> None:
    bare = {"limit", "connector", "status", "reason", "window", "name"}
    for name, told in operations(api):
        for parameter in told.get("parameters", ()):
            assert parameter.get("description") or parameter["name"] in bare, (name, parameter["name"])


def test_every_answers_model_is_exact() -> None:
    models = [found for found in vars(schemas).values() if isinstance(found, type) and issubclass(found, BaseModel)]
    assert models
    for model in models:
        assert model is BaseModel or model.model_config.get("extra") == "forbid", model.__name__


MODELS: dict[str, type[BaseModel]] = {
    "GET /livez": schemas.Alive,
    "GET /readyz": schemas.Ready,
    "GET /connectors/health": schemas.Overall,
    "GET /connectors/{name}/health": schemas.Verdict,
    "GET /v1/me": schemas.Myself,
    "GET /v1/connectors": schemas.ConnectorList,
    "GET /v1/connectors/{name}": schemas.Manifest,
    "GET /v1/tenants": schemas.TenantPage,
    "GET /v1/pairs": schemas.VerdictPage,
    "GET /v1/tenants/{tenant}/health": schemas.Overall,
    "GET /v1/tenants/{tenant}/connectors/{connector}/health": schemas.Verdict,
    "GET /v1/tenants/{tenant}/connectors/{connector}/history": schemas.History,
    "POST /v1/tenants/{tenant}/connectors/{connector}/check": schemas.Verdict,
    "GET /v1/tenants/{tenant}/connectors/{connector}/config": schemas.Configuration,
    "PUT /v1/tenants/{tenant}/connectors/{connector}/config": schemas.Configuration,
    "GET /v1/tenants/{tenant}/connectors/{connector}/config/revisions": schemas.RevisionList,
    "POST /v1/tenants/{tenant}/connectors/{connector}/config/test": schemas.Verdict,
    "GET /v1/tenants/{tenant}/transitions": schemas.TransitionPoll,
    "GET /v1/incidents": schemas.IncidentList,
    "GET /v1/incidents/log": schemas.IncidentLog,
    "GET /v1/maintenance": schemas.MaintenanceList,
    "POST /v1/maintenance": schemas.Maintenance,
    "GET /v1/audit": schemas.AuditPage,
}
WORDLESS = {"GET /metrics", "DELETE /v1/maintenance/{window}"} | {
    name for name in TABLE if name.endswith("/stream") or name.startswith("DELETE")
}


async def test_real_answers_are_those_of_the_models(world: World) -> None:
    assert set(MODELS) | WORDLESS == set(TABLE)
    redis = world.api.parts.redis
    world.vendors.script.set(OWN, "slack", "expired")
    begun = (await world.ask("GET", f"/v1/tenants/{OWN}/transitions")).body["after"]
    for connector in ("github", "slack"):
        await world.ask("POST", f"/v1/tenants/{OWN}/connectors/{connector}/check")
    await world.record(Reason.VENDOR_ERROR)  # not in force yet: the raw verdict is another
    incident = Incident(IncidentKind.OUTAGE, "github|x", 1_700_000_000_000, 1_700_000_001_000, 7, "x")
    await redis.hset(keys.INCIDENTS, incident.id, dump(incident))
    entry = {"event": "opened", "incident": json.dumps(incident.as_dict())}
    await redis.xadd(keys.INCIDENT_LOG, entry)  # type: ignore[arg-type]  # dict is invariant
    tomorrow = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).isoformat()
    bodies = {
        "POST /v1/maintenance": {"tenant": OWN, "ends": tomorrow},
        "PUT /v1/tenants/{tenant}/connectors/{connector}/config": world.config(),
        "POST /v1/tenants/{tenant}/connectors/{connector}/config/test": world.config(),
    }
    ordered = sorted(MODELS, key=lambda name: not name.startswith("POST /v1/m"))  # then there is a window to list
    for name in sorted(ordered, key=lambda name: name.startswith("PUT")):
        method, _, path = name.partition(" ")
        for connector in ("github", "slack"):
            url = path.format(tenant=OWN, connector=connector, name=connector)
            query = f"?tenant_id={OWN}" if path.startswith("/connectors") else ""
            query = f"?after={begun}" if path.endswith("/transitions") else query
            found = await world.ask(method, url + query, json=bodies.get(name), headers={"If-Match": "*"})
            assert found.status in (200, 201, 503), (name, found.text)
            MODELS[name].model_validate_json(found.text)
            if "items" in found.body:
                assert found.body["items"], name
    raw = await world.ask("GET", f"/v1/tenants/{OWN}/health")
    assert raw.body["connectors"]


async def test_real_problems_are_those_of_the_model(world: World) -> None:
    for method, url, status in (
        ("GET", "/nothing", 404),
        ("PUT", "/livez", 405),
        ("GET", "/v1/tenants?limit=x&after=" + "a" * 200, 422),
        ("GET", f"/v1/tenants/{OWN}/connectors/vertex/health", 404),
        ("PUT", f"/v1/tenants/{OWN}/connectors/github/config", 422),
    ):
        found = await world.ask(method, url)
        assert found.status == status
        problem = schemas.ProblemDetails.model_validate_json(found.text)
        assert problem.status == status


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("known", [True, False], ids=["token", "nobody"])
@pytest.mark.timeout(600)
async def test_whatever_is_asked_is_answered_as_described(world: World, mode: GenerationMode, *, known: bool) -> None:
    api = schemathesis.openapi.from_dict(create_app(world.api.parts).openapi())
    headers = {"Authorization": f"Bearer {await world.token()}"} if known else {}
    assert hypothesis.settings.default
    examples = hypothesis.settings.default.max_examples // (8 if known else 25)
    for found in api.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        if operation.path.endswith("/stream"):
            continue  # it does not end; tests/web/test_transitions.py reads it
        if mode is GenerationMode.NEGATIVE and not list(operation.iter_parameters()) and not operation.body:
            continue
        cases = operation.as_strategy(generation_mode=mode)
        await asyncio.to_thread(asked, world.api.url, cases, headers, examples)


def asked(url: str, cases: st.SearchStrategy[schemathesis.Case[Any]], headers: dict[str, str], examples: int) -> None:
    """Ask what is generated, half of it about what is there, and look whether the answers are as described."""

    @hypothesis.settings(max_examples=examples, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=cases, there=st.booleans())
    def ask(case: schemathesis.Case[Any], there: bool) -> None:
        if there:
            known = {"tenant": OWN, "connector": "github", "name": "github"}
            case.path_parameters = {
                name: known.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
        if "wait" in (case.query or {}):
            case.query["wait"] = 0
        answer = case.call(base_url=url, headers=headers, timeout=20)
        if answer.status_code >= 500:
            assert (answer.status_code, case.operation.path) == (503, "/connectors/{name}/health"), answer.text
        case.validate_response(answer, checks=CONFORMANCE)

    ask()
