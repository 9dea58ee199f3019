"""The demo vendors' answers against the vendors' own OpenAPI documents, as real checks receive them.

What a document leaves open, and what is newer than it, is listed here, so that nothing goes unchecked unseen.
Linear is in ``test_linear.py``, Google's token endpoint in ``test_google.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.connector import Connector
from registry.connectors.github import GitHub
from registry.connectors.gitlab import GitLab
from registry.connectors.slack import Slack
from registry.connectors.vertex import Vertex
from tests.contract.demo import SPOKEN
from tests.contract.relay import Exchange
from tests.contract.specifications import Specification
from tests.fixtures_contracts import StartRelay
from tests.fixtures_vendors import Check, CheckService, demo_config
from worker.demo.tenants import service_account_key
from worker.demo.vendors import DemoVendors

VENDORS: dict[str, type[Connector]] = {"github": GitHub, "gitlab": GitLab, "slack": Slack, "vertex": Vertex}

OPEN: dict[str, dict[str, set[int]]] = {
    "github": {"GET /rate_limit": {401, 403, 503}, "POST /app/installations/7/access_tokens": {503}},
    "gitlab": {
        "GET /api/v4/personal_access_tokens/self": {401, 429, 503},
        "GET /api/v4/user": {200, 401, 403, 429, 503},
        "GET /api/v4/version": {401, 429, 503},
        "GET /oauth/token/info": {200},  # https://docs.gitlab.com/api/oauth2/ has it, the document has not
    },
    "slack": {},
    "vertex": {},
}
"""Answers whose body the document does not describe."""

NEWER: dict[str, set[str]] = {
    "github": set(),
    "gitlab": set(),
    "slack": {
        "$: Additional properties are not allowed ('expires_in' was unexpected)",
        "$.error: 'ratelimited' is not one of",
        "$.error: 'service_unavailable' is not one of",
        "$.error: 'token_expired' is not one of",
    },
    "vertex": set(),
}
"""What Slack documents today, and its document of 2020 does not allow. https://docs.slack.dev/reference/methods/auth.test"""


def _configs(name: str, vendors: DemoVendors) -> Iterator[dict[str, object]]:
    """Every way of authenticating that changes what is asked for."""
    config = demo_config(name, vendors)
    yield config
    if name == "github":
        key = json.loads(service_account_key("acme-01", vendors.url))["private_key"]
        yield config | {"auth": {"type": "github_app", "app_id": "acme-01", "installation_id": 7, "private_key": key}}
    if name == "gitlab":
        yield config | {"auth": {"type": "oauth2", "access_token": "demo-acme-01"}}


@pytest.mark.parametrize("name", VENDORS)
async def test_a_demo_vendor_answers_as_its_vendor_documents(
    contracts: Path, script: DemoVendors, relay: StartRelay, check: Check, check_service: CheckService, name: str
) -> None:
    specification, vendor = Specification(contracts / f"{name}.json"), await relay(f"{script.url}/{name}")
    for fault in SPOKEN:
        script.script.set("*", name, fault)
        await check_service(VENDORS[name], vendor.url)
        for config in _configs(name, script):
            await check(VENDORS[name], config | {"base_url": vendor.url}, tenant=fault)
    left_open: dict[str, set[int]] = {}
    wrong: set[str] = set()
    for exchange in vendor.exchanges:
        schema = _schema(specification, name, exchange)
        if schema is None:
            left_open.setdefault(f"{exchange.call.method} {exchange.call.path}", set()).add(exchange.status)
        else:
            wrong.update(specification.violations(schema, exchange.body))
    assert left_open == OPEN[name]
    assert wrong == NEWER[name]


def _schema(specification: Specification, name: str, exchange: Exchange) -> dict[str, object] | None:
    """Slack's document knows GET and paths without ``/api``, and means its failures by ``default``."""
    call = exchange.call
    if name != "slack":
        return specification.schema(call.method, call.path, exchange.status)
    accepted = json.loads(exchange.body)["ok"]
    return specification.schema("GET", call.path.removeprefix("/api"), 200 if accepted else "default")
