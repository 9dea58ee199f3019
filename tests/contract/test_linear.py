"""Linear's connector and its demo vendor against Linear's own schema.

A server made of the schema parses, validates and answers our queries. The schema tells neither errors nor headers
(limits, authentication): those are told in prose only, and tested in ``tests/connectors``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web
from graphql import (
    FieldNode,
    GraphQLResolveInfo,
    GraphQLSchema,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    build_schema,
    get_named_type,
    graphql_sync,
    is_leaf_type,
    is_non_null_type,
    parse,
    visit,
)

from registry.connectors import linear
from registry.connectors.linear import QUERY, Linear
from registry.health import Fault, Reason
from tests.contract.demo import SPOKEN
from tests.fixtures_contracts import StartRelay
from tests.fixtures_vendors import Check, CheckService, Serve, demo_config
from worker.demo.vendors import DemoVendors

VALUES = {"ID": "7f1c1a3e-0b6a-4b0e-9d0a-3f2f6b0c9e11", "String": "acme"}
"""A value for each scalar that our queries ask for."""


@pytest.fixture(scope="module")
def schema(contracts: Path) -> GraphQLSchema:
    return build_schema((contracts / "linear.graphql").read_text(encoding="utf-8"))


class LinearServer:
    """Answers what is valid by the schema with typed values, and anything else as Linear does: 400 and a code."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.queries: list[str] = []
        self.refused: list[str] = []
        self._schema = schema

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        assert (request.method, request.path, request.content_type) == ("POST", "/graphql", "application/json")
        query = json.loads(await request.read())["query"]
        self.queries.append(query)
        result = graphql_sync(self._schema, query, field_resolver=_typed)
        if result.errors is None:
            return web.json_response(result.formatted)
        self.refused += [error.message for error in result.errors]
        told = [error.formatted | {"extensions": {"code": "GRAPHQL_VALIDATION_FAILED"}} for error in result.errors]
        return web.json_response({"errors": told}, status=400)


def _typed(_source: object, info: GraphQLResolveInfo[object]) -> object:
    asked = get_named_type(info.return_type)
    return VALUES[asked.name] if is_leaf_type(asked) else {}


@pytest.mark.parametrize(
    "auth", [{"type": "bearer", "token": "lin_api_abcdef"}, {"type": "oauth2", "access_token": "abcdef"}]
)
async def test_our_query_is_valid_and_its_answer_is_understood(
    schema: GraphQLSchema, serve: Serve, check: Check, auth: dict[str, str]
) -> None:
    server = LinearServer(schema)
    verdict = await check(Linear, {"auth": auth, "base_url": await serve(server)})
    assert (server.queries, server.refused) == ([QUERY], [])
    assert (verdict.reason, verdict.metadata["workspace"]) == (Reason.OK, "acme")


async def test_the_service_checks_query_is_valid(
    schema: GraphQLSchema, serve: Serve, check_service: CheckService
) -> None:
    server = LinearServer(schema)
    verdict = await check_service(Linear, await serve(server))
    assert (len(server.queries), server.refused) == (1, [])
    assert verdict.reason is Reason.OK


async def test_a_field_that_the_schema_does_not_know_is_refused_and_our_fault(
    schema: GraphQLSchema, serve: Serve, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "QUERY", QUERY.replace("urlKey", "urlSlug"))
    server = LinearServer(schema)
    config = {"auth": {"type": "bearer", "token": "lin_api_abcdef"}, "base_url": await serve(server)}
    verdict = await check(Linear, config)
    (refused,) = server.refused
    assert refused.startswith("Cannot query field 'urlSlug' on type 'Organization'.")
    assert (verdict.reason, verdict.fault) == (Reason.MONITOR_ERROR, Fault.PLATFORM)


def test_the_schema_promises_every_field_that_we_need(schema: GraphQLSchema) -> None:
    """None of them may be null, so an answer without one is no documented answer."""
    types, nullable = TypeInfo(schema), []

    class Fields(Visitor):
        def enter_field(self, node: FieldNode, *_: object) -> None:
            if not is_non_null_type(types.get_type()):
                nullable.append(node.name.value)

    visit(parse(QUERY), TypeInfoVisitor(types, Fields()))
    assert nullable == []


@pytest.mark.parametrize("fault", SPOKEN)
async def test_the_demo_vendor_answers_as_the_schema_says(
    schema: GraphQLSchema, script: DemoVendors, relay: StartRelay, check: Check, fault: str
) -> None:
    """Data is what the schema makes of it: no field too much, none missing, each of its type.

    Errors have the form that GraphQL gives them. https://spec.graphql.org/October2021/#sec-Errors
    """
    script.script.set("*", "linear", fault)
    vendor = await relay(f"{script.url}/linear")
    await check(Linear, demo_config("linear", script) | {"base_url": vendor.url})
    (answer,) = [json.loads(exchange.body) for exchange in vendor.exchanges]
    if "data" in answer:
        assert answer == graphql_sync(schema, QUERY, root_value=answer["data"]).formatted
    else:
        assert answer.keys() == {"errors"}
        for error in answer["errors"]:
            assert isinstance(error["message"], str)
            assert error.keys() <= {"message", "extensions"}
