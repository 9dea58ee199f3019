"""Linear, against its documented answers. https://linear.app/developers/graphql"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from aiohttp import web

from registry.connectors.linear import QUERY, Linear
from registry.health import Fault, Reason, Status
from tests.fixtures_vendors import NOW_MS, Check, CheckService, Serve, says

SUCCESS = {"data": {"viewer": {"id": "u1"}, "organization": {"id": "o1", "name": "Acme", "urlKey": "acme"}}}
DATE = "Mon, 21 Sep 2026 14:13:20 GMT"


def config(url: str) -> dict[str, object]:
    return {"auth": {"type": "bearer", "token": "lin_api_abcdef"}, "base_url": url}


def errors(message: str, **extensions: object) -> dict[str, object]:
    return {"errors": [{"message": message, "path": ["viewer"], "extensions": extensions}], "data": None}


API_KEY = "It looks like you're trying to use an API key as a Bearer token. Remove the Bearer prefix from the header."
AUTH = {"type": "authentication error", "code": "AUTHENTICATION_ERROR", "statusCode": 401}

ANSWERS: list[tuple[int, object, Reason, Fault]] = [
    (400, errors("Authentication required, not authenticated", **AUTH), Reason.CREDENTIAL_REJECTED, Fault.TENANT),
    (401, errors("Authentication required, not authenticated", **AUTH), Reason.CREDENTIAL_REJECTED, Fault.TENANT),
    (200, errors("Authentication required", type="authentication error"), Reason.CREDENTIAL_REJECTED, Fault.TENANT),
    (401, {}, Reason.CREDENTIAL_REJECTED, Fault.TENANT),
    (401, errors("Access token has expired", **AUTH), Reason.CREDENTIAL_EXPIRED, Fault.TENANT),
    (400, errors(API_KEY, **AUTH), Reason.MISCONFIGURED, Fault.TENANT),
    (400, errors("Rate limit exceeded", code="RATELIMITED"), Reason.RATE_LIMITED, Fault.TENANT),
    (400, errors("Rate limit exceeded", type="ratelimited"), Reason.RATE_LIMITED, Fault.TENANT),
    (200, errors("Rate limit exceeded", code="RATELIMITED"), Reason.RATE_LIMITED, Fault.TENANT),
    (429, {}, Reason.RATE_LIMITED, Fault.TENANT),
    (200, errors("no", type="forbidden"), Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, errors("Invalid scope: `read` required", code="FORBIDDEN"), Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, {}, Reason.PERMISSION_DENIED, Fault.TENANT),
    (400, errors("no", type="feature not accessible"), Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, errors("User account is suspended", **AUTH), Reason.ACCOUNT_SUSPENDED, Fault.TENANT),
    (200, errors("oops", type="internal error"), Reason.VENDOR_ERROR, Fault.VENDOR),
    (400, errors("oops", type="bootstrap error"), Reason.VENDOR_ERROR, Fault.VENDOR),
    (200, errors("oops", type="lock timeout"), Reason.VENDOR_ERROR, Fault.VENDOR),
    (200, errors("oops", code="INTERNAL_SERVER_ERROR"), Reason.VENDOR_ERROR, Fault.VENDOR),
    (400, errors("Cannot query field", code="GRAPHQL_VALIDATION_FAILED"), Reason.MONITOR_ERROR, Fault.PLATFORM),
    (400, errors("no", type="graphql error"), Reason.MONITOR_ERROR, Fault.PLATFORM),
    (200, errors("?", type="something new"), Reason.BAD_RESPONSE, Fault.VENDOR),
    (200, {"errors": "odd"}, Reason.BAD_RESPONSE, Fault.VENDOR),
    (200, {"data": {"viewer": None, "organization": None}}, Reason.BAD_RESPONSE, Fault.VENDOR),
    (200, SUCCESS | {"errors": [{"message": "partial"}]}, Reason.BAD_RESPONSE, Fault.VENDOR),
    (404, {}, Reason.NOT_FOUND, Fault.TENANT),
    (502, {}, Reason.VENDOR_ERROR, Fault.VENDOR),
]


@pytest.mark.parametrize(("status", "body", "reason", "fault"), ANSWERS)
async def test_a_documented_answer_is_told_apart(
    serve: Serve, check: Check, status: int, body: object, reason: Reason, fault: Fault
) -> None:
    verdict = await check(Linear, config(await serve(says(status, body))))
    assert (verdict.reason, verdict.fault) == (reason, fault)


@pytest.mark.parametrize(
    ("auth", "sent"),
    [
        ({"type": "bearer", "token": "lin_api_abcdef"}, "lin_api_abcdef"),
        ({"type": "oauth2", "access_token": "lin_oauth_abcdef"}, "Bearer lin_oauth_abcdef"),
    ],
)
async def test_an_api_key_goes_bare_and_an_oauth_token_as_bearer(
    serve: Serve, check: Check, auth: Mapping[str, str], sent: str
) -> None:
    seen: list[tuple[str, str, str | None, object]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        body = (await request.read()).decode()
        seen.append((request.method, request.path, request.headers.get("Authorization"), body))
        return web.json_response(SUCCESS)

    verdict = await check(Linear, {"auth": auth, "base_url": await serve(handler)})
    assert (verdict.reason, verdict.metadata["workspace"]) == (Reason.OK, "acme")
    assert seen == [("POST", "/graphql", sent, f'{{"query": "{QUERY}"}}')]


def limits(requests: int, complexity: int) -> dict[str, str]:
    return {
        "X-RateLimit-Requests-Limit": "2500",
        "X-RateLimit-Requests-Remaining": str(requests),
        "X-RateLimit-Requests-Reset": str(NOW_MS + 60_000),
        "X-RateLimit-Complexity-Limit": "3000000",
        "X-RateLimit-Complexity-Remaining": str(complexity),
        "X-RateLimit-Complexity-Reset": str(NOW_MS + 90_000),
        "Date": DATE,
    }


@pytest.mark.parametrize(
    ("requests", "complexity", "reason", "limit", "resets_ms"),
    [
        (2400, 2_990_000, Reason.OK, 2500, NOW_MS + 60_000),
        (2400, 100_000, Reason.QUOTA_LOW, 3_000_000, NOW_MS + 90_000),
        (20, 2_900_000, Reason.QUOTA_LOW, 2500, NOW_MS + 60_000),
    ],
)
async def test_the_limit_nearer_to_its_end_is_the_quota(
    serve: Serve, check: Check, requests: int, complexity: int, reason: Reason, limit: int, resets_ms: int
) -> None:
    verdict = await check(Linear, config(await serve(says(200, SUCCESS, limits(requests, complexity)))))
    assert verdict.reason is reason
    assert verdict.quota
    assert (verdict.quota.limit, verdict.quota.resets_ms) == (limit, resets_ms)


@pytest.mark.parametrize(("requests", "complexity", "wait"), [(0, 1000, 60), (1000, 0, 90), (0, 0, 90)])
async def test_the_wait_is_until_the_used_up_limit_is_refilled(
    serve: Serve, check: Check, requests: int, complexity: int, wait: int
) -> None:
    limited = errors("Rate limit exceeded", code="RATELIMITED")
    verdict = await check(Linear, config(await serve(says(400, limited, limits(requests, complexity)))))
    assert (verdict.reason, verdict.retry_after) == (Reason.RATE_LIMITED, wait)


@pytest.mark.parametrize(("left", "reason"), [(7200, Reason.OK), (599, Reason.CREDENTIAL_EXPIRING)])
async def test_an_oauth_token_is_expiring_once_nobody_has_refreshed_it(
    serve: Serve, check: Check, left: int, reason: Reason
) -> None:
    auth = {"type": "oauth2", "access_token": "x", "expires_at": NOW_MS // 1000 + left}
    verdict = await check(Linear, {"auth": auth, "base_url": await serve(says(200, SUCCESS))})
    ends_ms = None if reason is Reason.OK else NOW_MS + left * 1000
    assert (verdict.reason, verdict.credential_expires_ms) == (reason, ends_ms), "its alert would never end"


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(("kind", "fault"), [("internal error", Fault.VENDOR), ("ratelimited", Fault.PLATFORM)])
async def test_a_failure_under_a_status_that_is_expected_fails_the_service_check(
    serve: Serve, check_service: CheckService, status: int, kind: str, fault: Fault
) -> None:
    body = {"errors": [{"message": "Something broke", "extensions": {"type": kind}}]}
    verdict = await check_service(Linear, await serve(says(status, body)))
    assert (verdict.status is Status.HEALTHY, verdict.fault) == (False, fault)
