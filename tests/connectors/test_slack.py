"""Slack, against its documented answers. https://docs.slack.dev/reference/methods/auth.test"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from aiohttp import web

from registry.connectors.slack import Slack
from registry.health import Fault, Reason
from tests.fixtures_vendors import NOW_MS, Check, CheckService, Serve, says

SUCCESS = {
    "ok": True,
    "url": "https://subarachnoid.slack.com/",
    "team": "Subarachnoid Workspace",
    "user": "bot",
    "team_id": "T0G9PQBBK",
    "user_id": "W23456789",
    "bot_id": "BZYBOTHED",
    "is_enterprise_install": False,
}

CODES = {
    Reason.CREDENTIAL_REJECTED: ["invalid_auth", "not_authed", "token_revoked"],
    Reason.CREDENTIAL_EXPIRED: ["token_expired"],
    Reason.ACCOUNT_SUSPENDED: ["account_inactive"],
    Reason.PERMISSION_DENIED: [
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "access_denied",
        "accesslimited",
        "team_access_not_granted",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "org_login_required",
        "two_factor_setup_required",
    ],
    Reason.RATE_LIMITED: ["ratelimited", "rate_limited"],
    Reason.VENDOR_ERROR: [
        "internal_error",
        "fatal_error",
        "service_unavailable",
        "request_timeout",
        "team_added_to_org",
    ],
    Reason.MONITOR_ERROR: [
        "invalid_arg_name",
        "invalid_arguments",
        "invalid_array_arg",
        "invalid_charset",
        "invalid_form_data",
        "invalid_post_type",
        "missing_post_type",
        "invalid_json",
        "json_not_object",
        "upgrade_required",
        "deprecated_endpoint",
        "method_deprecated",
    ],
    Reason.BAD_RESPONSE: ["an_error_of_next_year"],
}


def config(url: str, **settings: object) -> dict[str, object]:
    return {"auth": {"type": "bearer", "token": "xoxb-1-abc"}, "base_url": url, "settings": settings}


@pytest.mark.parametrize(("reason", "code"), [(reason, code) for reason, codes in CODES.items() for code in codes])
async def test_every_documented_error_has_its_reason(serve: Serve, check: Check, reason: Reason, code: str) -> None:
    verdict = await check(Slack, config(await serve(says(200, {"ok": False, "error": code}))))
    assert verdict.reason is reason
    assert verdict.metadata == {"http_status": 200, "code": code}


async def test_errors_of_our_own_making_are_never_the_tenants(serve: Serve, check: Check) -> None:
    verdict = await check(Slack, config(await serve(says(200, {"ok": False, "error": "invalid_form_data"}))))
    assert verdict.fault is Fault.PLATFORM


async def test_a_429_says_how_long_to_wait(serve: Serve, check: Check) -> None:
    verdict = await check(
        Slack, config(await serve(says(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "30"})))
    )
    assert (verdict.reason, verdict.retry_after) == (Reason.RATE_LIMITED, 30)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ok": 1},
        {"ok": "true"},
        {"ok": True},
        {"ok": False},
        [],
        {"ok": False, "error": 7},
        SUCCESS | {"team_id": None},
    ],
)
async def test_another_shape_is_bad_response(serve: Serve, check: Check, body: object) -> None:
    assert (await check(Slack, config(await serve(says(200, body))))).reason is Reason.BAD_RESPONSE


async def test_the_token_is_sent_as_bearer_and_the_workspace_noted(serve: Serve, check: Check) -> None:
    seen: list[tuple[str, str, str | None]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.method, request.path, request.headers.get("Authorization")))
        return web.json_response(SUCCESS)

    verdict = await check(Slack, config(await serve(handler)))
    assert seen == [("POST", "/api/auth.test", "Bearer xoxb-1-abc")]
    assert verdict.reason is Reason.OK
    assert verdict.metadata["workspace"] == "Subarachnoid Workspace"


@pytest.mark.parametrize(
    ("granted", "needed", "reason"),
    [
        ("chat:write,users:read", ["users:read"], Reason.OK),
        ("chat:write", ["users:read"], Reason.PERMISSION_DENIED),
        ("", [], Reason.OK),
    ],
)
async def test_required_scopes_are_held_against_the_granted_ones(
    serve: Serve, check: Check, granted: str, needed: list[str], reason: Reason
) -> None:
    url = await serve(says(200, SUCCESS, {"X-OAuth-Scopes": granted}))
    verdict = await check(Slack, config(url, required_scopes=needed))
    assert verdict.reason is reason


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(43_200, Reason.OK), (3600, Reason.OK), (3599, Reason.CREDENTIAL_EXPIRING), (1, Reason.CREDENTIAL_EXPIRING)],
)
async def test_a_rotated_token_is_expiring_when_nobody_refreshed_it_in_time(
    serve: Serve, check: Check, seconds: int, reason: Reason
) -> None:
    verdict = await check(Slack, config(await serve(says(200, SUCCESS | {"expires_in": seconds}))))
    ends_ms = None if reason is Reason.OK else NOW_MS + seconds * 1000
    assert (verdict.reason, verdict.credential_expires_ms) == (reason, ends_ms)


async def test_the_missing_scope_that_slack_names_is_told(serve: Serve, check: Check) -> None:
    body: Mapping[str, object] = {
        "ok": False,
        "error": "missing_scope",
        "needed": "users:read",
        "provided": "chat:write",
    }
    verdict = await check(Slack, config(await serve(says(200, body))))
    assert verdict.error
    assert "users:read" in verdict.error


async def test_the_service_check_blames_no_tenant_whatever_slack_says(
    serve: Serve, check_service: CheckService
) -> None:
    verdict = await check_service(Slack, await serve(says(200, {"ok": False, "error": "token_revoked"})))
    assert (verdict.reason, verdict.fault) == (Reason.BAD_RESPONSE, Fault.VENDOR)


async def test_an_app_level_token_is_the_wrong_kind(serve: Serve, check: Check) -> None:
    url = await serve(says(200, {"ok": True, "app_name": "acme", "app_id": "A1"}))
    verdict = await check(Slack, {"auth": {"type": "bearer", "token": "xapp-1-A1-1-abcdef"}, "base_url": url})
    assert (verdict.reason, verdict.fault) == (Reason.MISCONFIGURED, Fault.TENANT)
