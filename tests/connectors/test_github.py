"""GitHub, against its documented answers. https://docs.github.com/en/rest"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from registry.connector import ConnectorConfig
from registry.connectors.github import GitHub
from registry.errors import InvalidConfig
from registry.health import Fault, Reason, Status
from tests.fixtures_vendors import NOW_MS, Check, Serve, demo_config, says, signed_claims
from worker.demo.vendors import DemoVendors

RATE = {"limit": 5000, "used": 1, "remaining": 4999, "reset": 1_790_001_800}
SUCCESS = {"resources": {"core": RATE, "search": {"limit": 30, "used": 0, "remaining": 30, "reset": 1}}, "rate": RATE}
DATE = "Mon, 21 Sep 2026 14:13:20 GMT"


def config(url: str, **settings: object) -> dict[str, object]:
    return {"auth": {"type": "bearer", "token": "ghp_abcdef0123456789"}, "base_url": url, "settings": settings}


def error(message: str, status: int) -> dict[str, str]:
    return {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)}


SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
SAML = "Resource protected by organization SAML enforcement. You must grant your Personal Access token access."
ALLOW_LIST = (
    "Although you appear to have the correct authorization credentials, the `acme` organization has an IP allow "
    "list enabled, and your IP address is not permitted to access this resource."
)
ADMINISTRATIVE = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header"
PRIMARY = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000600", "Date": DATE}
SSO = {"x-github-sso": "required; url=https://github.com/orgs/acme/sso?authorization_request=A"}

ANSWERS: list[tuple[int, str, Mapping[str, str], Reason, Fault]] = [
    (401, "Bad credentials", {}, Reason.CREDENTIAL_REJECTED, Fault.TENANT),
    (401, "Requires authentication", {}, Reason.CREDENTIAL_REJECTED, Fault.TENANT),
    (401, "The token has expired", {}, Reason.CREDENTIAL_EXPIRED, Fault.TENANT),
    (403, "API rate limit exceeded for user ID 1.", PRIMARY, Reason.RATE_LIMITED, Fault.TENANT),
    (429, "API rate limit exceeded for user ID 1.", PRIMARY, Reason.RATE_LIMITED, Fault.TENANT),
    (403, SECONDARY, {"retry-after": "60"}, Reason.RATE_LIMITED, Fault.TENANT),
    (403, SECONDARY, {}, Reason.RATE_LIMITED, Fault.TENANT),
    (429, SECONDARY, {}, Reason.RATE_LIMITED, Fault.TENANT),
    (403, "You have triggered an abuse detection mechanism.", {}, Reason.RATE_LIMITED, Fault.TENANT),
    (403, "Maximum number of login attempts exceeded. Please try again later.", {}, Reason.RATE_LIMITED, Fault.TENANT),
    (403, SAML, SSO, Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, SAML, {}, Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, ALLOW_LIST, {}, Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, "Resource not accessible by personal access token", {}, Reason.PERMISSION_DENIED, Fault.TENANT),
    (403, "Sorry. Your account was suspended.", {}, Reason.ACCOUNT_SUSPENDED, Fault.TENANT),
    (403, "This installation has been suspended", {}, Reason.ACCOUNT_SUSPENDED, Fault.TENANT),
    (403, ADMINISTRATIVE, {}, Reason.MONITOR_ERROR, Fault.PLATFORM),
    (500, "Server Error", {}, Reason.VENDOR_ERROR, Fault.VENDOR),
    (502, "Server Error", {}, Reason.VENDOR_ERROR, Fault.VENDOR),
    (503, "Service unavailable", {}, Reason.VENDOR_ERROR, Fault.VENDOR),
    (422, "Validation Failed", {}, Reason.MONITOR_ERROR, Fault.PLATFORM),
]


@pytest.mark.parametrize(("status", "message", "headers", "reason", "fault"), ANSWERS)
async def test_a_documented_answer_is_told_apart(
    serve: Serve, check: Check, status: int, message: str, headers: Mapping[str, str], reason: Reason, fault: Fault
) -> None:
    verdict = await check(GitHub, config(await serve(says(status, error(message, status), headers))))
    assert (verdict.reason, verdict.fault) == (reason, fault)
    assert verdict.metadata["http_status"] == status


async def test_a_used_up_primary_limit_says_when_it_ends_and_what_is_left(serve: Serve, check: Check) -> None:
    verdict = await check(GitHub, config(await serve(says(403, error("API rate limit exceeded", 403), PRIMARY))))
    assert verdict.status is Status.DEGRADED
    assert verdict.retry_after == 600
    assert verdict.quota
    assert (verdict.quota.limit, verdict.quota.remaining, verdict.quota.resets_ms) == (5000, 0, 1_790_000_600_000)
    assert [(step.name, step.status.value) for step in verdict.checks] == [("api", "pass"), ("quota", "fail")]


async def test_retry_after_goes_before_the_reset_of_the_primary_limit(serve: Serve, check: Check) -> None:
    verdict = await check(
        GitHub, config(await serve(says(403, error(SECONDARY, 403), {**PRIMARY, "retry-after": "7"})))
    )
    assert verdict.retry_after == 7


async def test_the_check_is_one_free_call_with_the_documented_headers(serve: Serve, check: Check) -> None:
    seen: list[tuple[str, str, str | None, str | None]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        headers = request.headers
        seen.append((request.method, request.path, headers.get("Authorization"), headers.get("X-GitHub-Api-Version")))
        return web.json_response(SUCCESS)

    assert (await check(GitHub, config(f"{await serve(handler)}/api/v3"))).reason is Reason.OK
    assert seen == [("GET", "/api/v3/rate_limit", "Bearer ghp_abcdef0123456789", "2022-11-28")]


async def test_a_healthy_answer_tells_scopes_and_quota(serve: Serve, check: Check) -> None:
    verdict = await check(GitHub, config(await serve(says(200, SUCCESS, {"x-oauth-scopes": "repo, user"}))))
    assert verdict.reason is Reason.OK
    assert verdict.metadata["scopes"] == "repo user"
    assert verdict.quota
    assert verdict.quota.resets_at == "2026-09-21T14:43:20.000Z"


@pytest.mark.parametrize(
    ("told", "reason", "ends_ms"),
    [
        ("2026-09-24 14:13:20 UTC", Reason.CREDENTIAL_EXPIRING, NOW_MS + 3 * 86_400_000),
        ("2026-09-24 16:13:20 +0200", Reason.CREDENTIAL_EXPIRING, NOW_MS + 3 * 86_400_000),
        ("2026-12-24 14:13:20 UTC", Reason.OK, NOW_MS + 94 * 86_400_000),
        ("never", Reason.OK, None),
    ],
)
async def test_the_tokens_end_is_read_from_its_header(
    serve: Serve, check: Check, told: str, reason: Reason, ends_ms: int | None
) -> None:
    url = await serve(says(200, SUCCESS, {"github-authentication-token-expiration": told}))
    verdict = await check(GitHub, config(url))
    assert (verdict.reason, verdict.credential_expires_ms) == (reason, ends_ms)


async def test_a_nearly_used_up_quota_is_quota_low(serve: Serve, check: Check) -> None:
    low = {"resources": {"core": {**RATE, "remaining": 250}}}
    verdict = await check(GitHub, config(await serve(says(200, low))))
    assert (verdict.reason, verdict.status) == (Reason.QUOTA_LOW, Status.DEGRADED)


@pytest.mark.parametrize(
    ("granted", "needed", "reason"),
    [
        ("repo, user", ["repo"], Reason.OK),
        ("repo", ["public_repo", "security_events"], Reason.OK),
        ("admin:org", ["read:org"], Reason.OK),
        ("public_repo", ["repo"], Reason.PERMISSION_DENIED),
        ("", ["repo"], Reason.PERMISSION_DENIED),
        (None, ["repo"], Reason.OK),  # a fine-grained token has permissions, which no header tells
    ],
)
async def test_required_scopes_are_held_against_the_granted_ones(
    serve: Serve, check: Check, granted: str | None, needed: list[str], reason: Reason
) -> None:
    headers = {} if granted is None else {"x-oauth-scopes": granted}
    verdict = await check(GitHub, config(await serve(says(200, SUCCESS, headers)), required_scopes=needed))
    assert verdict.reason is reason


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"resources": {"core": {"limit": "5000"}}}', '{"resources": null}', "nope"]
)
async def test_another_shape_is_bad_response_even_with_status_200(serve: Serve, check: Check, body: str) -> None:
    verdict = await check(GitHub, config(await serve(says(200, body))))
    assert (verdict.reason, verdict.fault) == (Reason.BAD_RESPONSE, Fault.VENDOR)


async def test_the_unicorn_page_is_the_vendors_failure(serve: Serve, check: Check) -> None:
    page = "<!DOCTYPE html><html><title>Unicorn! &middot; GitHub</title></html>"
    verdict = await check(GitHub, config(await serve(says(503, page, {"Content-Type": "text/html"}))))
    assert verdict.reason is Reason.VENDOR_ERROR


async def test_an_enterprise_server_without_rate_limits_is_asked_for_its_meta_data(serve: Serve, check: Check) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/meta":
            known = request.headers["Authorization"] == "Bearer ghp_abcdef0123456789"
            return web.json_response(
                {"installed_version": "3.14.0"} if known else error("Bad credentials", 401),
                status=200 if known else 401,
            )
        return web.json_response(error("Rate limiting is not enabled.", 404), status=404)

    url = await serve(handler)
    assert (await check(GitHub, config(url))).reason is Reason.OK
    wrong = {**config(url), "auth": {"type": "bearer", "token": "ghp_wrong"}}
    assert (await check(GitHub, wrong)).reason is Reason.CREDENTIAL_REJECTED


async def test_an_address_that_is_no_github_api_is_not_found(serve: Serve, check: Check) -> None:
    assert (await check(GitHub, config(await serve(says(404, error("Not Found", 404)))))).reason is Reason.NOT_FOUND


async def test_an_oauth_token_past_its_configured_end_is_expired_and_not_just_rejected(
    serve: Serve, check: Check
) -> None:
    url = await serve(says(401, error("Bad credentials", 401)))
    auth = {"type": "oauth2", "access_token": "ghu_1", "expires_at": NOW_MS // 1000 - 1}
    assert (await check(GitHub, {"auth": auth, "base_url": url})).reason is Reason.CREDENTIAL_EXPIRED
    auth["expires_at"] = NOW_MS // 1000 + 1
    assert (await check(GitHub, {"auth": auth, "base_url": url})).reason is Reason.CREDENTIAL_REJECTED


async def test_a_credential_that_github_echoes_is_masked(serve: Serve, check: Check) -> None:
    odd = {"auth": {"type": "bearer", "token": "zzz-not-a-known-form-zzz"}}
    url = await serve(
        says(
            401,
            error("no such token zzz-not-a-known-form-zzz", 401),
            {"x-github-request-id": "zzz-not-a-known-form-zzz"},
        )
    )
    verdict = await check(GitHub, {**odd, "base_url": url})
    assert "zzz-not" not in repr(verdict)


# GitHub Apps


@pytest.fixture(scope="module")
def app_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def app_config(url: str, key: rsa.RSAPrivateKey | str) -> dict[str, object]:
    pem = key if isinstance(key, str) else _pem(key)
    auth = {"type": "github_app", "app_id": "12345", "installation_id": 678, "private_key": pem}
    return {"auth": auth, "base_url": url}


def _pem(key: rsa.RSAPrivateKey) -> str:
    kind = serialization.PrivateFormat.TraditionalOpenSSL  # what GitHub hands out
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()).decode()


class App:
    """GitHub's side of an App: exchanges assertions, and accepts the newest token only."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self.exchanged = 0
        self.calls: list[str] = []
        self._public = key.public_key()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.calls.append(request.path)
        if request.path == "/app/installations/678/access_tokens":
            claims = signed_claims(token, self._public)
            assert claims["iss"] == "12345"
            assert (claims["iat"], claims["exp"]) == (NOW_MS // 1000 - 60, NOW_MS // 1000 + 540)  # GitHub accepts 600 s
            self.exchanged += 1
            made = {"token": f"ghs_{self.exchanged}", "expires_at": "2026-09-21T15:13:20Z", "permissions": {}}
            return web.json_response(made, status=201)
        if token != f"ghs_{self.exchanged}":
            return web.json_response(error("Bad credentials", 401), status=401)
        return web.json_response(SUCCESS)


async def test_an_apps_key_is_exchanged_once_and_its_token_kept(
    serve: Serve, check: Check, app_key: rsa.RSAPrivateKey
) -> None:
    app = App(app_key)
    configuration = app_config(await serve(app), app_key)
    for _ in range(3):
        assert (await check(GitHub, configuration)).reason is Reason.OK
    assert app.calls == ["/app/installations/678/access_tokens", "/rate_limit", "/rate_limit", "/rate_limit"]


async def test_a_kept_token_that_was_revoked_is_exchanged_anew_before_anyone_is_blamed(
    serve: Serve, check: Check, app_key: rsa.RSAPrivateKey
) -> None:
    app = App(app_key)
    configuration = app_config(await serve(app), app_key)
    await check(GitHub, configuration)
    app.exchanged += 1  # at GitHub, the token that is kept here ends
    verdict = await check(GitHub, configuration)
    assert verdict.reason is Reason.OK
    assert [step.name for step in verdict.checks] == ["auth", "api", "auth", "quota"]
    assert {step.status.value for step in verdict.checks} == {"pass"}


async def test_two_tenants_with_the_same_app_key_do_not_share_a_token(
    serve: Serve, check: Check, app_key: rsa.RSAPrivateKey
) -> None:
    app = App(app_key)
    configuration = app_config(await serve(app), app_key)
    await check(GitHub, configuration, tenant="acme-01")
    await check(GitHub, configuration, tenant="acme-02")
    assert app.exchanged == 2


@pytest.mark.parametrize(
    ("status", "message", "reason", "fault"),
    [
        (404, "Not Found", Reason.NOT_FOUND, Fault.TENANT),
        (404, "Integration not found", Reason.MISCONFIGURED, Fault.TENANT),
        (403, "This installation has been suspended", Reason.ACCOUNT_SUSPENDED, Fault.TENANT),
        (401, "A JSON web token could not be decoded", Reason.CREDENTIAL_REJECTED, Fault.TENANT),
        (401, "'Issuer' claim ('iss') must be an Integer", Reason.MISCONFIGURED, Fault.TENANT),
        (401, "'Expiration time' claim ('exp') is too far in the future", Reason.MONITOR_ERROR, Fault.PLATFORM),
        (
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            Reason.MONITOR_ERROR,
            Fault.PLATFORM,
        ),
        (503, "Service unavailable", Reason.VENDOR_ERROR, Fault.VENDOR),
    ],
)
async def test_a_refused_exchange_is_told_apart(
    serve: Serve, check: Check, app_key: rsa.RSAPrivateKey, status: int, message: str, reason: Reason, fault: Fault
) -> None:
    verdict = await check(GitHub, app_config(await serve(says(status, error(message, status))), app_key))
    assert (verdict.reason, verdict.fault) == (reason, fault)
    assert [(step.name, step.status.value) for step in verdict.checks] == [("auth", "fail")]


async def test_an_unusable_private_key_is_misconfigured_before_any_call(script: DemoVendors, check: Check) -> None:
    verdict = await check(GitHub, app_config(f"{script.url}/github", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END"))
    assert verdict.reason is Reason.MISCONFIGURED
    assert "AAAA" not in repr(verdict)
    assert script.requests == {}


async def test_an_app_works_with_the_demo_vendors(
    script: DemoVendors, check: Check, app_key: rsa.RSAPrivateKey
) -> None:
    auth = {"type": "github_app", "app_id": "acme-01", "installation_id": 1, "private_key": _pem(app_key)}
    configuration = {**demo_config("github", script), "auth": auth}
    assert (await check(GitHub, configuration)).reason is Reason.OK
    script.script.set("acme-01", "github", "missing_scope")
    assert (await check(GitHub, configuration, tenant="fresh")).reason is Reason.ACCOUNT_SUSPENDED


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"auth": {"type": "service_account", "key": "x"}}, "auth.type"),
        (
            {"auth": {"type": "bearer", "token": "x"}, "settings": {"required_scopes": "repo"}},
            "settings.required_scopes",
        ),
        ({"auth": {"type": "bearer", "token": "x"}, "settings": {"org": "acme"}}, "settings.org"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_with_its_field(given: Mapping[str, object], field: str) -> None:
    with pytest.raises(InvalidConfig, match=f"^{field}"):
        GitHub.validate(ConnectorConfig.model_validate(given))


def test_a_reference_in_place_of_the_secret_is_accepted() -> None:
    GitHub.validate(ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://GITHUB_TOKEN"}}))


BLOCKED = [
    (401, "Unauthorized by proxy", Reason.BAD_RESPONSE, Fault.VENDOR),
    (403, "error code: 1020", Reason.BAD_RESPONSE, Fault.VENDOR),
    (403, ADMINISTRATIVE, Reason.MONITOR_ERROR, Fault.PLATFORM),
]


@pytest.mark.parametrize(("status", "text", "reason", "fault"), BLOCKED)
async def test_a_refusal_that_is_no_json_is_not_githubs_word_on_the_token(
    serve: Serve, check: Check, status: int, text: str, reason: Reason, fault: Fault
) -> None:
    verdict = await check(GitHub, config(await serve(says(status, text, {"Content-Type": "text/plain"}))))
    assert (verdict.reason, verdict.fault) == (reason, fault)


@pytest.mark.parametrize("headers", [{"Retry-After": "60"}, PRIMARY])
async def test_a_limit_is_one_on_a_page_too(serve: Serve, check: Check, headers: Mapping[str, str]) -> None:
    page = {"Content-Type": "text/html", **headers}
    verdict = await check(GitHub, config(await serve(says(403, "<html>Whoa there!</html>", page))))
    assert verdict.reason is Reason.RATE_LIMITED
    assert verdict.retry_after


async def test_enterprise_server_without_limits_tells_scopes_and_end_all_the_same(serve: Serve, check: Check) -> None:
    told = {"X-OAuth-Scopes": "read:user", "GitHub-Authentication-Token-Expiration": "2026-09-23 12:00:00 UTC"}

    async def handler(request: web.BaseRequest) -> web.Response:
        status = 200 if request.path == "/meta" else 404
        return web.json_response({"installed_version": "3.14.0"}, status=status, headers=told)

    url = await serve(handler)
    assert (await check(GitHub, config(url))).reason is Reason.CREDENTIAL_EXPIRING
    assert (await check(GitHub, config(url, required_scopes=["repo"]))).reason is Reason.PERMISSION_DENIED


async def test_scopes_that_no_header_tells_are_not_said_to_be_there(serve: Serve, check: Check) -> None:
    verdict = await check(GitHub, config(await serve(says(200, SUCCESS)), required_scopes=["repo"]))
    assert verdict.metadata["scopes"] == "not told for this kind of token"
    assert "permissions" not in [step.name for step in verdict.checks]


async def test_the_quota_of_callers_without_a_credential_is_nobodys(serve: Serve, check: Check) -> None:
    limits = {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000600"}
    verdict = await check(GitHub, config(await serve(says(401, error("Bad credentials", 401), limits))))
    assert (verdict.reason, verdict.quota) == (Reason.CREDENTIAL_REJECTED, None)


@pytest.mark.parametrize("kind", ["locked", "elliptic", "edwards"])
async def test_a_key_that_cannot_sign_is_the_tenants_to_correct(serve: Serve, check: Check, kind: str) -> None:
    made: Mapping[str, tuple[PrivateKeyTypes, serialization.KeySerializationEncryption]] = {
        "locked": (
            rsa.generate_private_key(public_exponent=65537, key_size=2048),
            serialization.BestAvailableEncryption(b"a password"),
        ),
        "elliptic": (ec.generate_private_key(ec.SECP256R1()), serialization.NoEncryption()),
        "edwards": (ed25519.Ed25519PrivateKey.generate(), serialization.NoEncryption()),
    }
    key, lock = made[kind]
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock).decode()
    auth = {"type": "github_app", "app_id": "1", "installation_id": 2, "private_key": pem}
    verdict = await check(GitHub, {"auth": auth, "base_url": await serve(says(200, SUCCESS))})
    assert (verdict.reason, verdict.fault) == (Reason.MISCONFIGURED, Fault.TENANT)
