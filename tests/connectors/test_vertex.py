"""Vertex AI and Google's token endpoint, against their documented answers.

https://developers.google.com/identity/protocols/oauth2/service-account
https://cloud.google.com/apis/design/errors
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec.structs import replace

from registry.connector import ConnectorConfig
from registry.connectors.vertex import Vertex
from registry.errors import InvalidConfig
from registry.health import Fault, Reason, Status
from registry.thresholds import Thresholds, advance
from registry.tokens import TokenCache
from tests.fixtures_vendors import NOW_MS, Check, Serve, says, signed_claims
from worker.demo.tenants import service_account_key

WHERE = {"project": "my-project", "location": "europe-west4"}
TOKEN = {"access_token": "ya29.abc", "expires_in": 3599, "token_type": "Bearer"}
LOCATION = {"name": "projects/my-project/locations/europe-west4", "locationId": "europe-west4"}


def config(url: str, **changes: object) -> dict[str, object]:
    key = json.loads(service_account_key("acme-01", url)) | changes
    return {"auth": {"type": "service_account", "key": json.dumps(key)}, "base_url": url, "settings": WHERE}


def oauth(url: str, **auth: object) -> dict[str, object]:
    return {"auth": {"type": "oauth2", "access_token": "ya29.abcdef", **auth}, "base_url": url, "settings": WHERE}


def error(code: int, status: str, reason: str | None = None, message: str = "no") -> dict[str, object]:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
    return {"error": {"code": code, "message": message, "status": status, "details": [info] if reason else []}}


REGION = "Unsupported region for Vertex AI, select from [asia-east1, europe-west4]"
DENIED = "Permission 'aiplatform.locations.get' denied on resource (or it may not exist)."

API: list[tuple[int, object, Reason, Fault]] = [
    (401, error(401, "UNAUTHENTICATED"), Reason.CREDENTIAL_REJECTED, Fault.TENANT),
    (401, error(401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED"), Reason.CREDENTIAL_EXPIRED, Fault.TENANT),
    (403, error(403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED", DENIED), Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, error(403, "PERMISSION_DENIED"), Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, error(403, "PERMISSION_DENIED", "SERVICE_DISABLED"), Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, error(403, "PERMISSION_DENIED", "SECURITY_POLICY_VIOLATED"), Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, error(403, "PERMISSION_DENIED", "BILLING_DISABLED"), Reason.ACCOUNT_SUSPENDED, Fault.TENANT),
    (403, error(403, "PERMISSION_DENIED", "CONSUMER_SUSPENDED"), Reason.ACCOUNT_SUSPENDED, Fault.TENANT),
    (403, error(403, "PERMISSION_DENIED", "CONSUMER_INVALID"), Reason.NOT_FOUND, Fault.TENANT),
    (404, error(404, "NOT_FOUND"), Reason.NOT_FOUND, Fault.TENANT),
    (404, "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>", Reason.NOT_FOUND, Fault.TENANT),
    (400, error(400, "FAILED_PRECONDITION", None, REGION), Reason.NOT_FOUND, Fault.TENANT),
    (
        400,
        error(400, "INVALID_ARGUMENT", None, "Invalid resource field value in the request."),
        Reason.MONITOR_ERROR,
        Fault.PLATFORM,
    ),
    (429, error(429, "RESOURCE_EXHAUSTED"), Reason.RATE_LIMITED, Fault.VENDOR),
    (429, error(429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"), Reason.RATE_LIMITED, Fault.TENANT),
    (500, error(500, "INTERNAL"), Reason.VENDOR_ERROR, Fault.VENDOR),
    (503, error(503, "UNAVAILABLE"), Reason.VENDOR_ERROR, Fault.VENDOR),
    (504, error(504, "DEADLINE_EXCEEDED"), Reason.VENDOR_ERROR, Fault.VENDOR),
    (200, {"unexpected": 1}, Reason.BAD_RESPONSE, Fault.VENDOR),
]


@pytest.mark.parametrize(("status", "body", "reason", "fault"), API)
async def test_a_documented_answer_of_the_api_is_told_apart(
    serve: Serve, check: Check, status: int, body: object, reason: Reason, fault: Fault
) -> None:
    verdict = await check(Vertex, oauth(await serve(says(status, body))))
    assert (verdict.reason, verdict.fault) == (reason, fault)


EXCHANGE: list[tuple[int, object, Reason, Fault]] = [
    (400, ("invalid_grant", "Invalid JWT Signature."), Reason.CREDENTIAL_REJECTED, Fault.TENANT),
    (400, ("invalid_grant", "Invalid grant: account not found"), Reason.ACCOUNT_SUSPENDED, Fault.TENANT),
    (
        400,
        (
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
        ),
        Reason.MONITOR_ERROR,
        Fault.PLATFORM,
    ),
    (401, ("disabled_client", "The OAuth client was disabled."), Reason.ACCOUNT_SUSPENDED, Fault.TENANT),
    (401, ("unauthorized_client", "Client is unauthorized."), Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, ("access_denied", "Account restricted"), Reason.PERMISSION_DENIED, Fault.TENANT),
    (400, ("invalid_scope", "no"), Reason.MONITOR_ERROR, Fault.PLATFORM),
    (500, ("internal_failure", ""), Reason.VENDOR_ERROR, Fault.VENDOR),
    (503, ("temporarily_unavailable", ""), Reason.VENDOR_ERROR, Fault.VENDOR),
    (429, ("rate_limit_exceeded", ""), Reason.RATE_LIMITED, Fault.TENANT),
    (502, ("", ""), Reason.VENDOR_ERROR, Fault.VENDOR),
]


@pytest.mark.parametrize(("status", "told", "reason", "fault"), EXCHANGE)
async def test_a_refused_exchange_is_told_apart_and_asked_for_once(
    serve: Serve, check: Check, status: int, told: tuple[str, str], reason: Reason, fault: Fault
) -> None:
    calls: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        calls.append(request.path)
        return web.json_response({"error": told[0], "error_description": told[1]}, status=status)

    verdict = await check(Vertex, config(await serve(handler)))
    assert (verdict.reason, verdict.fault) == (reason, fault)
    assert [(step.name, step.status.value) for step in verdict.checks] == [("auth", "fail")]
    assert calls == ["/google/token"]


class Google:
    """Both ends of Google: exchanges assertions signed with the demo key, and knows its newest token."""

    def __init__(self) -> None:
        self.exchanged = 0
        self.assertions: list[Mapping[str, object]] = []
        self.revoked: set[str] = set()
        self.limited = False

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/google/token":
            form = parse_qs((await request.read()).decode())
            assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
            self.assertions.append(_verified(form["assertion"][0]))
            self.exchanged += 1
            return web.json_response(TOKEN | {"access_token": f"ya29.{self.exchanged}"})
        token = request.headers["Authorization"].removeprefix("Bearer ")
        if token in self.revoked:
            return web.json_response(error(401, "UNAUTHENTICATED"), status=401)
        if self.limited:
            return web.json_response(error(429, "RESOURCE_EXHAUSTED"), status=429)
        assert request.path == "/v1/projects/my-project/locations/europe-west4"
        return web.json_response(LOCATION)


def _verified(assertion: str) -> Mapping[str, object]:
    pem = json.loads(service_account_key("acme-01", ""))["private_key"].encode()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return signed_claims(assertion, key.public_key())


async def test_the_key_signs_the_documented_assertion(serve: Serve, check: Check) -> None:
    google = Google()
    verdict = await check(Vertex, config(await serve(google)))
    assert verdict.reason is Reason.OK
    assert [step.name for step in verdict.checks] == ["auth", "api", "permissions"]
    assert google.assertions == [
        {
            "iss": "demo-acme-01@demo-acme-01.iam.gserviceaccount.com",
            "scope": "https://www.googleapis.com/auth/cloud-platform.read-only",
            "aud": "https://oauth2.googleapis.com/token",
            "iat": NOW_MS // 1000,
            "exp": NOW_MS // 1000 + 3600,
        }
    ]


async def test_the_token_is_kept_for_the_tenants_later_checks_and_for_nobody_else(serve: Serve, check: Check) -> None:
    google = Google()
    configuration = config(await serve(google))
    for _ in range(3):
        await check(Vertex, configuration)
    assert google.exchanged == 1
    await check(Vertex, configuration, tenant="acme-02")
    assert google.exchanged == 2


async def test_a_kept_token_that_google_refuses_is_exchanged_anew_before_anyone_is_blamed(
    serve: Serve, check: Check
) -> None:
    google = Google()
    configuration = config(await serve(google))
    await check(Vertex, configuration)
    google.revoked.add("ya29.1")
    assert (await check(Vertex, configuration)).reason is Reason.OK
    google.revoked.add("ya29.2")
    google.revoked.add("ya29.3")
    assert (await check(Vertex, configuration)).reason is Reason.CREDENTIAL_REJECTED
    assert google.exchanged == 3


async def test_a_refused_tenants_token_is_forgotten(serve: Serve, check: Check, tokens: TokenCache) -> None:
    google = Google()
    google.revoked.add("ya29.1")
    await check(Vertex, config(await serve(google)))
    assert len(tokens) == 0


async def test_token_endpoints_that_hang_hold_no_thread(serve: Serve, check: Check) -> None:
    """Forty exchanges hang at the same time, many more than there are threads to sign with."""
    waiting, everyone = 0, asyncio.Event()

    async def hang(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal waiting
        waiting += 1
        if waiting == 40:
            everyone.set()
        await asyncio.Event().wait()
        raise AssertionError

    configuration = config(await serve(hang))
    checks = [asyncio.create_task(check(Vertex, configuration, tenant=f"t{n}", timeout=60)) for n in range(40)]
    async with asyncio.timeout(30):
        await everyone.wait()
    for task in checks:
        task.cancel()
    await asyncio.gather(*checks, return_exceptions=True)


async def test_the_token_endpoint_is_held_to_the_egress_policy(serve: Serve, check: Check) -> None:
    url = await serve(Google())
    verdict = await check(Vertex, config(url, token_uri="http://169.254.169.254/computeMetadata/v1/token"))
    assert verdict.reason is Reason.MISCONFIGURED
    assert verdict.error
    assert "egress policy" in verdict.error


async def test_a_token_endpoint_that_is_down_is_unreachable(serve: Serve, check: Check) -> None:
    verdict = await check(Vertex, config(await serve(Google()), token_uri="http://127.0.0.1:9/token"))
    assert (verdict.reason, verdict.fault) == (Reason.UNREACHABLE, Fault.VENDOR)


@pytest.mark.parametrize("broken", ["-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "nonsense", ""])
async def test_an_unusable_key_is_misconfigured_and_not_repeated(serve: Serve, check: Check, broken: str) -> None:
    verdict = await check(Vertex, config(await serve(Google()), private_key=broken))
    assert (verdict.reason, verdict.fault) == (Reason.MISCONFIGURED, Fault.TENANT)
    assert "AAAA" not in repr(verdict)


@pytest.mark.parametrize(
    ("auth", "settings", "field"),
    [
        ({"type": "bearer", "token": "x"}, WHERE, "auth.type"),
        ({"type": "oauth2", "access_token": "x"}, {"location": "us-central1"}, "settings.project"),
        ({"type": "oauth2", "access_token": "x"}, {"project": "my-project"}, "settings.location"),
        ({"type": "oauth2", "access_token": "x"}, {**WHERE, "project": "../x"}, "settings.project"),
        ({"type": "oauth2", "access_token": "x"}, {**WHERE, "location": "evil.com/"}, "settings.location"),
        ({"type": "oauth2", "access_token": "x"}, {**WHERE, "zone": "a"}, "settings.zone"),
        ({"type": "service_account", "key": "{}"}, WHERE, "auth.key.*type"),
        ({"type": "service_account", "key": "not json"}, WHERE, "auth.key.*not JSON"),
        ({"type": "service_account", "key": '{"type": "authorized_user"}'}, WHERE, "auth.key.*type"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_with_its_field(
    auth: Mapping[str, str], settings: Mapping[str, str], field: str
) -> None:
    with pytest.raises(InvalidConfig, match=f"^{field}"):
        Vertex.validate(ConnectorConfig.model_validate({"auth": auth, "settings": settings}))


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("europe-west4", "https://europe-west4-aiplatform.googleapis.com"),
        ("global", "https://aiplatform.googleapis.com"),
    ],
)
def test_each_location_has_its_own_endpoint(location: str, url: str) -> None:
    settings = {"project": "my-project", "location": location}
    auth = {"type": "oauth2", "access_token": "x"}
    assert Vertex(ConnectorConfig.model_validate({"auth": auth, "settings": settings})).base_url == url


async def test_a_kept_token_that_only_meets_limits_proves_nothing_of_the_key(serve: Serve, check: Check) -> None:
    google = Google()
    configuration = config(await serve(google))
    record = advance(None, await check(Vertex, configuration), Thresholds(), revision=1, fence=1)
    google.limited = True
    for minute in range(1, 5):
        verdict = replace(await check(Vertex, configuration), checked_ms=NOW_MS + minute * 60_000)
        record = advance(record, verdict, Thresholds(), revision=1, fence=1 + minute)
    assert (google.exchanged, record.reason, record.status) == (1, Reason.RATE_LIMITED, Status.UNKNOWN)


async def test_an_access_token_that_worked_until_now_is_believed_through_one_limit(serve: Serve, check: Check) -> None:
    google = Google()
    configuration = oauth(await serve(google), expires_at=NOW_MS // 1000 + 300)
    record = None
    for minute in range(10):
        google.limited = minute == 9
        verdict = replace(await check(Vertex, configuration), checked_ms=NOW_MS + minute * 60_000)
        record = advance(record, verdict, Thresholds(), revision=1, fence=1 + minute)
    assert record
    assert (record.reason, record.status) == (Reason.RATE_LIMITED, Status.DEGRADED)
