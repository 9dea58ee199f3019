"""GitHub's connector against GitHub's own OpenAPI document, which Prism speaks.

The document has no security schemes, so it cannot tell that a token is missing, and no 401, 403 or 429 on
``/rate_limit``: those are told in prose only, and tested in ``tests/connectors``. It says ``application/json`` of all
answers, where GitHub's prose recommends to ask for ``application/vnd.github+json``.
https://docs.github.com/en/rest/using-the-rest-api/getting-started-with-the-rest-api#accept
"""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from registry.connectors.github import GitHub
from registry.health import Fault, Reason
from registry.http import VendorHttp
from tests.contract.relay import Call
from tests.fixtures_contracts import StartRelay
from tests.fixtures_vendors import Check, CheckService

VENDOR = "github.json"
RATE, META, EXCHANGE = "/rate_limit", "/meta", "/app/installations/7/access_tokens"
INVENTED = "dynamic=true"
"""Made of the schema: the document's own example for ``/meta`` is against it, and Prism refuses to send that."""


def plain_json(call: Call) -> Call:
    """The recommended media type in the words of the document; any other is left as it is."""
    accept = call.headers.get("accept", "").replace("application/vnd.github+json", "application/json")
    return dataclasses.replace(call, headers={**call.headers, "accept": accept})


@pytest.fixture(scope="module")
def app() -> dict[str, object]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return {
        "type": "github_app",
        "app_id": "123456",
        "installation_id": 7,
        "private_key": key.private_bytes(*form).decode(),
    }


@pytest.mark.parametrize(
    "auth", [{"type": "bearer", "token": "ghp_abcdef"}, {"type": "oauth2", "access_token": "gho_abcdef"}]
)
async def test_a_tokens_check_is_as_documented(
    prism: str, relay: StartRelay, check: Check, auth: dict[str, object]
) -> None:
    github = await relay(prism, spelled=plain_json)
    verdict = await check(GitHub, {"auth": auth, "base_url": github.url})
    assert [exchange.call.path for exchange in github.exchanges] == [RATE]
    assert github.objections == []
    assert verdict.reason is Reason.OK
    assert verdict.quota
    assert (verdict.quota.limit, verdict.quota.remaining) == (5000, 4999)


async def test_an_apps_check_is_as_documented(
    prism: str, relay: StartRelay, check: Check, app: dict[str, object]
) -> None:
    github = await relay(prism, spelled=plain_json)
    verdict = await check(GitHub, {"auth": app, "base_url": github.url})
    assert [(exchange.call.method, exchange.call.path) for exchange in github.exchanges] == [
        ("POST", EXCHANGE),
        ("GET", RATE),
    ]
    assert github.exchanges[1].call.headers["authorization"] == "Bearer ghs_16C7e42F292c6912E7710c838347Ae178B4a"
    assert github.objections == []
    assert verdict.reason is Reason.OK


async def test_an_instance_without_limits_is_asked_for_its_meta(prism: str, relay: StartRelay, check: Check) -> None:
    github = await relay(prism, spelled=plain_json, prefer={RATE: "code=404", META: INVENTED})
    verdict = await check(GitHub, {"auth": {"type": "bearer", "token": "ghp_abcdef"}, "base_url": github.url})
    assert [(exchange.call.path, exchange.status) for exchange in github.exchanges] == [(RATE, 404), (META, 200)]
    assert github.objections == []
    assert verdict.reason is Reason.OK


@pytest.mark.parametrize(
    ("status", "reason", "fault"),
    [
        (401, Reason.CREDENTIAL_REJECTED, Fault.TENANT),
        (403, Reason.PERMISSION_DENIED, Fault.TENANT),
        (404, Reason.NOT_FOUND, Fault.TENANT),
        (422, Reason.MONITOR_ERROR, Fault.PLATFORM),
    ],
)
async def test_every_documented_refusal_of_an_app_is_told_apart(
    prism: str,
    relay: StartRelay,
    check: Check,
    app: dict[str, object],
    status: int,
    reason: Reason,
    fault: Fault,
) -> None:
    github = await relay(prism, spelled=plain_json, prefer={EXCHANGE: f"code={status}"})
    verdict = await check(GitHub, {"auth": app, "base_url": github.url})
    assert [exchange.status for exchange in github.exchanges] == [status]
    assert github.objections == []
    assert (verdict.reason, verdict.fault) == (reason, fault)


@pytest.mark.parametrize("status", [200, 404])
async def test_the_service_check_is_as_documented(
    prism: str, relay: StartRelay, check_service: CheckService, status: int
) -> None:
    github = await relay(prism, spelled=plain_json, prefer={RATE: f"code={status}"})
    verdict = await check_service(GitHub, github.url)
    assert [exchange.status for exchange in github.exchanges] == [status]
    assert github.objections == []
    assert verdict.reason is Reason.OK


async def test_what_the_document_does_not_know_is_objected_to(
    prism: str, relay: StartRelay, vendor_http: VendorHttp
) -> None:
    github = await relay(prism, spelled=plain_json, prefer={RATE: "code=401"})
    await vendor_http.request("POST", f"{github.url}/app/installations/seven/access_tokens")
    await vendor_http.request("GET", f"{github.url}/rate_limits")
    await vendor_http.request("GET", f"{github.url}{RATE}")
    assert github.objections == [
        "POST /app/installations/seven/access_tokens: Request path parameter installation_id must be integer",
        "GET /rate_limits: Route not resolved, no path matched",
        "GET /rate_limit: The server cannot find the requested content",
    ]
