"""Vertex AI's connector against Google's own description of the API, which Prism speaks.

It describes every error alike (``google.rpc.Status``) and has no examples: what Prism puts in are words, not codes.
The token endpoint is not in it; see ``test_google.py``.
"""

from __future__ import annotations

import pytest

from registry.connectors.vertex import Vertex
from registry.health import Fault, Reason
from tests.fixtures_contracts import StartRelay
from tests.fixtures_vendors import Check, CheckService
from worker.demo.tenants import service_account_key
from worker.demo.vendors import DemoVendors

VENDOR = "vertex.json"
WHERE = {"project": "my-project", "location": "europe-west4"}
LOCATION = "/v1/projects/my-project/locations/europe-west4"


def config(url: str) -> dict[str, object]:
    return {"auth": {"type": "oauth2", "access_token": "ya29.abcdef"}, "base_url": url, "settings": WHERE}


async def test_a_tokens_check_is_as_documented(prism: str, relay: StartRelay, check: Check) -> None:
    vertex = await relay(prism)
    verdict = await check(Vertex, config(vertex.url))
    assert [(exchange.call.method, exchange.call.path) for exchange in vertex.exchanges] == [("GET", LOCATION)]
    assert vertex.objections == []
    assert verdict.reason is Reason.OK


async def test_a_keys_check_is_as_documented(prism: str, relay: StartRelay, check: Check, script: DemoVendors) -> None:
    vertex = await relay(prism)
    auth = {"type": "service_account", "key": service_account_key("acme-01", script.url)}
    verdict = await check(Vertex, config(vertex.url) | {"auth": auth})
    assert script.requests == {"google": 1}
    assert [exchange.call.headers["authorization"] for exchange in vertex.exchanges] == ["Bearer ya29.demo-acme-01"]
    assert vertex.objections == []
    assert verdict.reason is Reason.OK


@pytest.mark.parametrize(
    ("status", "reason", "fault"),
    [
        (400, Reason.MONITOR_ERROR, Fault.PLATFORM),
        (401, Reason.CREDENTIAL_REJECTED, Fault.TENANT),
        (403, Reason.PERMISSION_DENIED, Fault.TENANT),
        (404, Reason.NOT_FOUND, Fault.TENANT),
        (429, Reason.RATE_LIMITED, Fault.TENANT),
        (500, Reason.VENDOR_ERROR, Fault.VENDOR),
        (503, Reason.VENDOR_ERROR, Fault.VENDOR),
        (504, Reason.VENDOR_ERROR, Fault.VENDOR),
    ],
)
async def test_a_documented_error_is_told_apart_by_its_status_alone(
    prism: str, relay: StartRelay, check: Check, status: int, reason: Reason, fault: Fault
) -> None:
    vertex = await relay(prism, prefer={LOCATION: f"code={status}"})
    verdict = await check(Vertex, config(vertex.url))
    assert [exchange.status for exchange in vertex.exchanges] == [status]
    assert vertex.objections == []
    assert (verdict.reason, verdict.fault) == (reason, fault)


async def test_the_service_check_is_refused_for_its_lack_of_a_token_and_nothing_else(
    prism: str, relay: StartRelay, check_service: CheckService
) -> None:
    vertex = await relay(prism)
    verdict = await check_service(Vertex, vertex.url)
    assert vertex.objections == ["GET /v1/projects/-/locations: Invalid security scheme used"]
    assert [exchange.status for exchange in vertex.exchanges] == [401]
    assert verdict.reason is Reason.OK
