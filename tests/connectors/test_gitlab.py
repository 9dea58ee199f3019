"""GitLab, against its documented answers. https://docs.gitlab.com/api/rest/"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from aiohttp import web

from registry.connector import ConnectorConfig
from registry.connectors.gitlab import GitLab
from registry.errors import InvalidConfig
from registry.health import Fault, Reason
from tests.fixtures_vendors import NOW_MS, Check, Serve, says

TOKEN: dict[str, object] = {
    "id": 4,
    "name": "Test Token",
    "revoked": False,
    "created_at": "2026-07-23T14:31:47.729Z",
    "scopes": ["api"],
    "user_id": 24,
    "last_used_at": "2026-08-01T10:00:00.000Z",
    "active": True,
    "expires_at": None,
}
EXPIRED = "Token is expired. You can either do re-authorization or token refresh."
REVOKED = "Token was revoked. You have to re-authorize from the user."
SCOPE = "The request requires higher privileges than provided by the access token."
BLOCKED = "403 Forbidden - Your account has been blocked."
DATE = "Mon, 21 Sep 2026 14:13:20 GMT"


def config(url: str, **settings: object) -> dict[str, object]:
    return {"auth": {"type": "bearer", "token": "glpat-abcdef"}, "base_url": url, "settings": settings}


def oauth(url: str, **auth: object) -> dict[str, object]:
    return {"auth": {"type": "oauth2", "access_token": "abcdef0123", **auth}, "base_url": url}


ANSWERS: list[tuple[int, object, Mapping[str, str], Reason, Fault]] = [
    (401, {"message": "401 Unauthorized"}, {}, Reason.CREDENTIAL_REJECTED, Fault.TENANT),
    (401, "", {}, Reason.CREDENTIAL_REJECTED, Fault.TENANT),
    (401, {"error": "invalid_token", "error_description": REVOKED}, {}, Reason.CREDENTIAL_REJECTED, Fault.TENANT),
    (401, {"error": "invalid_token", "error_description": EXPIRED}, {}, Reason.CREDENTIAL_EXPIRED, Fault.TENANT),
    (401, {"error": "dpop_error", "error_description": "DPoP"}, {}, Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, {"error": "insufficient_scope", "error_description": SCOPE}, {}, Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, {"message": BLOCKED}, {}, Reason.ACCOUNT_SUSPENDED, Fault.TENANT),
    (
        403,
        {"message": "Your account has been deactivated by your administrator."},
        {},
        Reason.ACCOUNT_SUSPENDED,
        Fault.TENANT,
    ),
    (403, {"message": "Your password expired."}, {}, Reason.ACCOUNT_SUSPENDED, Fault.TENANT),
    (403, {"message": "403 Forbidden"}, {}, Reason.PERMISSION_DENIED, Fault.TENANT),
    (429, "Retry later\n", {"Retry-After": "30"}, Reason.RATE_LIMITED, Fault.TENANT),
    (503, {"message": "GitLab is in maintenance mode"}, {}, Reason.VENDOR_ERROR, Fault.VENDOR),
    (502, "", {}, Reason.VENDOR_ERROR, Fault.VENDOR),
    (405, {"error": "405 Not Allowed"}, {}, Reason.MONITOR_ERROR, Fault.PLATFORM),
]


@pytest.mark.parametrize(("status", "body", "headers", "reason", "fault"), ANSWERS)
@pytest.mark.parametrize("kind", [config, oauth])
async def test_a_documented_answer_is_told_apart(
    serve: Serve,
    check: Check,
    kind: object,
    status: int,
    body: object,
    headers: Mapping[str, str],
    reason: Reason,
    fault: Fault,
) -> None:
    url = await serve(says(status, body, headers))
    verdict = await check(GitLab, config(url) if kind is config else oauth(url))
    assert (verdict.reason, verdict.fault) == (reason, fault)


async def test_a_token_is_asked_about_itself_with_its_own_header(serve: Serve, check: Check) -> None:
    seen: list[tuple[str, str | None]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.path, request.headers.get("PRIVATE-TOKEN")))
        return web.json_response(TOKEN)

    assert (await check(GitLab, config(await serve(handler)))).reason is Reason.OK
    assert seen == [("/api/v4/personal_access_tokens/self", "glpat-abcdef")]


async def test_an_oauth_token_is_asked_for_its_user_as_a_bearer(serve: Serve, check: Check) -> None:
    seen: list[tuple[str, str | None]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.path, request.headers.get("Authorization")))
        return web.json_response({"id": 1, "username": "john", "state": "active"})

    assert (await check(GitLab, oauth(await serve(handler)))).reason is Reason.OK
    assert seen == [("/api/v4/user", "Bearer abcdef0123")]


@pytest.mark.parametrize("status", [400, 404])
async def test_an_instance_that_cannot_be_asked_about_the_token_is_asked_for_its_user(
    serve: Serve, check: Check, status: int
) -> None:
    """Before 15.5 there is no such endpoint (404); for other kinds of token it refuses (400)."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/api/v4/user":
            return web.json_response({"id": 1, "state": "active"})
        return web.json_response({"error": "404 Not Found"}, status=status)

    assert (await check(GitLab, config(await serve(handler)))).reason is Reason.OK


async def test_an_address_without_a_gitlab_api_is_not_found(serve: Serve, check: Check) -> None:
    assert (await check(GitLab, config(await serve(says(404, {"error": "404 Not Found"}))))).reason is Reason.NOT_FOUND


@pytest.mark.parametrize("state", ["blocked", "deactivated", "banned", "ldap_blocked", "blocked_pending_approval"])
async def test_a_user_that_is_not_active_is_suspended(serve: Serve, check: Check, state: str) -> None:
    verdict = await check(GitLab, oauth(await serve(says(200, {"id": 1, "state": state}))))
    assert verdict.reason is Reason.ACCOUNT_SUSPENDED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"revoked": True, "active": False}, Reason.CREDENTIAL_REJECTED),
        ({"revoked": True, "active": True}, Reason.CREDENTIAL_REJECTED),
        ({"active": False}, Reason.CREDENTIAL_REJECTED),
        ({"active": False, "expires_at": "2026-09-21"}, Reason.CREDENTIAL_EXPIRED),
        ({"expires_at": "2026-09-24"}, Reason.CREDENTIAL_EXPIRING),
        ({"expires_at": "2026-09-24T00:00:00.000Z"}, Reason.CREDENTIAL_EXPIRING),
        ({"expires_at": "2026-12-24"}, Reason.OK),
        ({"active": "yes"}, Reason.BAD_RESPONSE),
        ({"expires_at": "soon"}, Reason.BAD_RESPONSE),
    ],
)
async def test_what_the_token_says_of_itself_is_believed(
    serve: Serve, check: Check, changes: Mapping[str, object], reason: Reason
) -> None:
    assert (await check(GitLab, config(await serve(says(200, TOKEN | dict(changes)))))).reason is reason


async def test_a_token_ends_at_midnight_utc_of_its_last_day(serve: Serve, check: Check) -> None:
    verdict = await check(GitLab, config(await serve(says(200, TOKEN | {"expires_at": "2026-09-24"}))))
    assert verdict.credential_expires_ms == 1_790_208_000_000
    assert (verdict.reason, verdict.error) == (Reason.CREDENTIAL_EXPIRING, "the credential ends in 2 days")


@pytest.mark.parametrize(
    ("granted", "needed", "reason"),
    [
        (["api"], ["read_api", "read_user"], Reason.OK),
        (["read_api"], ["api"], Reason.PERMISSION_DENIED),
        (["read_user"], ["read_user"], Reason.OK),
    ],
)
async def test_required_scopes_are_held_against_the_granted_ones(
    serve: Serve, check: Check, granted: list[str], needed: list[str], reason: Reason
) -> None:
    url = await serve(says(200, TOKEN | {"scopes": granted}))
    assert (await check(GitLab, config(url, required_scopes=needed))).reason is reason


async def test_the_rate_limit_headers_tell_the_quota_where_there_are_any(serve: Serve, check: Check) -> None:
    headers = {"RateLimit-Limit": "2000", "RateLimit-Remaining": "90", "RateLimit-Reset": "1790000060"}
    verdict = await check(GitLab, config(await serve(says(200, TOKEN, headers))))
    assert verdict.reason is Reason.QUOTA_LOW
    assert verdict.quota
    assert (verdict.quota.remaining, verdict.quota.resets_ms) == (90, NOW_MS + 60_000)
    assert (await check(GitLab, config(await serve(says(200, TOKEN))))).quota is None


async def test_without_retry_after_the_reset_of_the_limit_tells_how_long_to_wait(serve: Serve, check: Check) -> None:
    headers = {"RateLimit-Remaining": "0", "RateLimit-Limit": "10", "RateLimit-Reset": "1790000045", "Date": DATE}
    verdict = await check(GitLab, config(await serve(says(429, "Retry later\n", headers))))
    assert (verdict.reason, verdict.retry_after) == (Reason.RATE_LIMITED, 45)


@pytest.mark.parametrize("value", ["-1", "1e9", "x", "", "9" * 400, "٣"])
async def test_senseless_limits_are_ignored(serve: Serve, check: Check, value: str) -> None:
    headers = {"RateLimit-Limit": value, "RateLimit-Remaining": value, "RateLimit-Reset": value}
    verdict = await check(GitLab, config(await serve(says(200, TOKEN, headers))))
    assert (verdict.reason, verdict.quota) == (Reason.OK, None)


@pytest.mark.parametrize("reset", ["253402300799", "253402300800", "999999999999", "0"])
async def test_a_reset_that_no_calendar_holds_is_left_out(serve: Serve, check: Check, reset: str) -> None:
    headers = {"RateLimit-Limit": "10", "RateLimit-Remaining": "9", "RateLimit-Reset": reset}
    verdict = await check(GitLab, config(await serve(says(200, TOKEN, headers))))
    assert verdict.quota
    assert verdict.quota.resets_at in (None, "9999-12-31T23:59:59.000Z")


def test_a_kind_of_credential_that_gitlab_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"^auth\.type: GitLab takes bearer or oauth2, not github_app"):
        GitLab.validate(
            ConnectorConfig.model_validate(
                {"auth": {"type": "github_app", "app_id": "1", "installation_id": 1, "private_key": "x"}}
            )
        )


@pytest.mark.parametrize(("granted", "reason"), [(["api"], Reason.OK), (["openid"], Reason.PERMISSION_DENIED)])
async def test_an_oauth_token_is_asked_for_the_scopes_that_are_required(
    serve: Serve, check: Check, granted: list[str], reason: Reason
) -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        if request.path == "/oauth/token/info":
            return web.json_response({"resource_owner_id": 1, "scope": granted, "expires_in_seconds": 7200})
        return web.json_response({"id": 1, "state": "active"})

    wanted = oauth(await serve(handler)) | {"settings": {"required_scopes": ["write_repository"]}}
    assert (await check(GitLab, wanted)).reason is reason


@pytest.mark.parametrize(("status", "reason"), [(404, Reason.OK), (403, Reason.OK), (503, Reason.VENDOR_ERROR)])
async def test_a_gateway_that_keeps_the_scopes_from_us_makes_no_token_unusable(
    serve: Serve, check: Check, status: int, reason: Reason
) -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        if request.path == "/oauth/token/info":
            return web.Response(status=status, text="<html>not here</html>", content_type="text/html")
        return web.json_response({"id": 1, "state": "active"})

    wanted = oauth(await serve(handler)) | {"settings": {"required_scopes": ["api"]}}
    verdict = await check(GitLab, wanted)
    assert verdict.reason is reason
    assert (verdict.metadata.get("scopes") == "not told by this instance") is (reason is Reason.OK)


@pytest.mark.parametrize("body", ['"Unauthorized"', "null", '\ufeff{"message": "401 Unauthorized"}', ""])
async def test_a_refusal_in_any_json_is_gitlabs_word(serve: Serve, check: Check, body: str) -> None:
    verdict = await check(GitLab, config(await serve(says(401, body, {"Content-Type": "application/json"}))))
    assert (verdict.reason, verdict.fault) == (Reason.CREDENTIAL_REJECTED, Fault.TENANT)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_that_is_no_json_is_not_gitlabs_word_on_the_token(
    serve: Serve, check: Check, status: int
) -> None:
    verdict = await check(GitLab, config(await serve(says(status, "Forbidden by proxy"))))
    assert (verdict.reason, verdict.fault) == (Reason.BAD_RESPONSE, Fault.VENDOR)
