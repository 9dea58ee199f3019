"""What each demo vendor answers: documented bodies and headers, by path, tenant and scripted fault.

Plain functions from a `Call` to a `Reply`; the server around them is `worker.demo.vendors`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qs

from worker.demo.assertion import complaint, issuer

FAULTS = (
    "healthy",
    "revoked",
    "expired",
    "missing_scope",
    "rate_limited",
    "slow",
    "error_503",
    "maintenance",
    "hanging",
    "garbage",
    "expiring",
)
"""Every scripted fault. ``expiring`` is healthy at Linear and Vertex AI, whose answers tell no expiry."""

EXPIRING_DAYS = 3
"""How far away the end of an ``expiring`` credential is, in days."""

_TOKEN = re.compile(r"demo[-_](\S+)")
_RETRY = {"Retry-After": "30"}
_LONG = dt.timedelta(days=300)


class Call(NamedTuple):
    """One request as the answers see it; `now` is Unix seconds."""

    path: str
    tenant: str | None
    fault: str
    headers: Mapping[str, str]
    body: bytes
    now: float


class Reply(NamedTuple):
    """One answer; a body that is text is sent as it is, anything else as JSON."""

    status: int
    body: object
    headers: Mapping[str, str] = {}


Speak = Callable[[Call], Reply]


def tenant_of(headers: Mapping[str, str], body: bytes) -> str | None:
    """The tenant whose made-up credential this request carries, or None without a known credential."""
    credential = headers.get("Authorization") or headers.get("PRIVATE-TOKEN") or ""
    kind, _, token = credential.partition(" ")
    token = token or kind
    if token.count(".") == 2:
        return issuer(token)
    if not credential and b"assertion=" in body:
        return issuer(_assertion(body))
    found = _TOKEN.search(token)
    return found[1] if found else None


def _assertion(body: bytes) -> str:
    return parse_qs(body.decode("ascii", "replace")).get("assertion", [""])[0]


def github(call: Call) -> Reply:
    """``GET /rate_limit`` and the App's token exchange. https://docs.github.com/en/rest/rate-limit"""
    limit, left, reset = (60 if call.tenant is None else 5000), 4990, int(call.now) + 1800
    headers = {"X-GitHub-Request-Id": "D3M0:1A2B:3C4D5E", "X-GitHub-Media-Type": "github.v3; format=json"}
    if call.path.startswith("/app/installations/"):
        return _installation_token(call, headers)
    if call.tenant is None and call.headers.get("Authorization"):
        return Reply(401, _github_error("Bad credentials", 401), headers)
    match call.fault:
        case "revoked" | "expired":
            return Reply(401, _github_error("Bad credentials", 401), headers)
        case "rate_limited":
            headers |= {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset)}
            return Reply(403, _github_error("API rate limit exceeded for user ID 583231.", 403), headers)
        case "error_503":
            return Reply(503, _github_error("Service unavailable", 503), headers)
    if call.path != "/rate_limit":
        return Reply(404, _github_error("Not Found", 404), headers)
    if call.tenant is not None:
        headers["X-OAuth-Scopes"] = "public_repo" if call.fault == "missing_scope" else "repo, read:org"
    if call.fault == "expiring":
        headers["github-authentication-token-expiration"] = _soon(call.now).strftime("%Y-%m-%d %H:%M:%S UTC")
    left = min(left, limit)
    rate = {"limit": limit, "used": limit - left, "remaining": left, "reset": reset, "resource": "core"}
    search = {"limit": 30, "used": 0, "remaining": 30, "reset": int(call.now) + 60, "resource": "search"}
    headers |= {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": str(reset)}
    return Reply(200, {"resources": {"core": rate, "search": search}, "rate": rate}, headers)


def _installation_token(call: Call, headers: Mapping[str, str]) -> Reply:
    match call.fault:
        case "revoked":
            return Reply(404, _github_error("Not Found", 404), headers)
        case "expired" | "missing_scope":
            return Reply(403, _github_error("This installation has been suspended", 403), headers)
        case "error_503":
            return Reply(503, _github_error("Service unavailable", 503), headers)
    if call.tenant is None:
        return Reply(401, _github_error("A JSON web token could not be decoded", 401), headers)
    ends = dt.datetime.fromtimestamp(call.now + 3600, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    token = {"token": f"ghs_demo_{call.tenant}", "expires_at": ends, "permissions": {"contents": "read"}}
    return Reply(201, token | {"repository_selection": "all"}, headers)


def _github_error(message: str, status: int) -> dict[str, str]:
    return {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)}


def gitlab(call: Call) -> Reply:
    """Introspection of both kinds of token, and ``/user``. https://docs.gitlab.com/api/personal_access_tokens/"""
    headers = {"X-Request-Id": "01DEM0GITLAB", "RateLimit-Limit": "2000", "RateLimit-Remaining": "1990"}
    headers["RateLimit-Reset"] = str(int(call.now) + 60)
    match call.fault:
        case "error_503":
            return Reply(503, {"message": "503 Service Unavailable"}, headers)
        case "rate_limited":
            return Reply(429, "Retry later\n", headers | _RETRY | {"RateLimit-Remaining": "0"})
        case "revoked":
            told = "Token was revoked. You have to re-authorize from the user."
            return Reply(401, {"error": "invalid_token", "error_description": told}, headers)
        case "expired":
            told = "Token is expired. You can either do re-authorization or token refresh."
            return Reply(401, {"error": "invalid_token", "error_description": told}, headers)
    if call.tenant is None:
        return Reply(401, {"message": "401 Unauthorized"}, headers)
    if call.path == "/api/v4/user":
        return _gitlab_user(call, headers)
    if call.path == "/oauth/token/info":
        grant = {"resource_owner_id": 24, "scope": ["api"], "expires_in": 7200, "created_at": int(call.now)}
        return Reply(200, grant | {"application": {"uid": "d3m0"}}, headers)
    if call.path != "/api/v4/personal_access_tokens/self":
        return Reply(404, {"error": "404 Not Found"}, headers)
    if "Authorization" in call.headers:
        return Reply(
            400, {"message": "400 Bad request - This endpoint requires token type to be a personal access token"}
        )
    ends = _soon(call.now) if call.fault == "expiring" else dt.datetime.fromtimestamp(call.now, dt.UTC) + _LONG
    token = {
        "id": 4,
        "name": f"monitor of {call.tenant}",
        "revoked": False,
        "created_at": "2026-01-02T08:00:00.000Z",
        "description": "Connector health",
        "scopes": ["read_user"] if call.fault == "missing_scope" else ["api"],
        "user_id": 24,
        "last_used_at": "2026-06-30T15:53:00.073Z",
        "active": True,
        "expires_at": ends.date().isoformat(),
        "last_used_ips": ["192.0.2.1"],
    }
    return Reply(200, token, headers)


def _gitlab_user(call: Call, headers: Mapping[str, str]) -> Reply:
    if call.fault == "missing_scope":
        told = "The request requires higher privileges than provided by the access token."
        error = {"error": "insufficient_scope", "error_description": told, "scope": "api read_api read_user"}
        return Reply(403, error, headers)
    return Reply(200, {"id": 24, "username": call.tenant, "name": "Demo", "state": "active", "locked": False}, headers)


def linear(call: Call) -> Reply:
    """``POST /graphql``. https://linear.app/developers/graphql"""
    reset = str(int(call.now * 1000) + 1_800_000)
    headers = {
        "X-Request-Id": "demo-linear",
        "X-RateLimit-Requests-Limit": "2500",
        "X-RateLimit-Requests-Remaining": "0" if call.fault == "rate_limited" else "2490",
        "X-RateLimit-Requests-Reset": reset,
        "X-Complexity": "3",
        "X-RateLimit-Complexity-Limit": "3000000",
        "X-RateLimit-Complexity-Remaining": "2999000",
        "X-RateLimit-Complexity-Reset": reset,
    }
    if call.path != "/graphql":
        return Reply(404, {"errors": [{"message": "Not found"}]}, headers)
    match call.fault:
        case "error_503":
            return Reply(503, {"errors": [{"message": "Service unavailable"}]}, headers)
        case "rate_limited":
            return Reply(400, _linear_error("Rate limit exceeded.", "ratelimited", "RATELIMITED", 429), headers)
        case "missing_scope":
            return Reply(200, _linear_error("Invalid scope: `read` required", "forbidden", "FORBIDDEN", 403), headers)
    if call.tenant is None or call.fault in ("revoked", "expired"):
        told = "Authentication required, not authenticated"
        return Reply(401, _linear_error(told, "authentication error", "AUTHENTICATION_ERROR", 401), headers)
    organization = {"id": f"org-{call.tenant}", "name": call.tenant, "urlKey": call.tenant.lower()}
    return Reply(200, {"data": {"viewer": {"id": f"user-{call.tenant}"}, "organization": organization}}, headers)


def _linear_error(message: str, kind: str, code: str, status: int) -> dict[str, object]:
    extensions = {
        "type": kind,
        "code": code,
        "statusCode": status,
        "userError": True,
        "userPresentableMessage": message,
    }
    return {"errors": [{"message": message, "extensions": extensions}]}


def slack(call: Call) -> Reply:
    """``POST /api/auth.test``: errors come with status 200. https://docs.slack.dev/reference/methods/auth.test"""
    headers = {"X-Slack-Req-Id": "demo0slack"}
    match call.fault:
        case "error_503":
            return Reply(503, {"ok": False, "error": "service_unavailable"}, headers)
        case "rate_limited":
            return Reply(429, {"ok": False, "error": "ratelimited"}, headers | _RETRY)
        case "revoked":
            return Reply(200, {"ok": False, "error": "token_revoked"}, headers)
        case "expired":
            return Reply(200, {"ok": False, "error": "token_expired"}, headers)
    if call.path == "/api/api.test":
        return Reply(200, {"ok": True}, headers)
    if call.path != "/api/auth.test":
        return Reply(200, {"ok": False, "error": "unknown_method"}, headers)
    if call.tenant is None:
        return Reply(200, {"ok": False, "error": "invalid_auth" if "Authorization" in call.headers else "not_authed"})
    headers["X-OAuth-Scopes"] = "chat:write" if call.fault == "missing_scope" else "chat:write,channels:read,users:read"
    body: dict[str, object] = {
        "ok": True,
        "url": f"https://{call.tenant.lower()}.slack.com/",
        "team": call.tenant,
        "user": "monitor",
        "team_id": "T0DEMO123",
        "user_id": "U0DEMO123",
        "bot_id": "B0DEMO123",
        "is_enterprise_install": False,
    }
    return Reply(200, body | ({"expires_in": 1200} if call.fault == "expiring" else {}), headers)


def google(call: Call) -> Reply:
    """Google's token endpoint. https://developers.google.com/identity/protocols/oauth2/service-account"""
    match call.fault:
        case "error_503":
            return Reply(503, {"error": "internal_failure", "error_description": "Backend error"})
        case "revoked":
            return Reply(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        case "expired":
            return Reply(400, {"error": "invalid_grant", "error_description": "Invalid grant: account not found"})
    if call.tenant is None:
        return Reply(400, {"error": "invalid_request", "error_description": "Missing or malformed assertion."})
    if told := complaint(_assertion(call.body)):
        return Reply(400, {"error": "invalid_grant", "error_description": told})
    return Reply(200, {"access_token": f"ya29.demo-{call.tenant}", "expires_in": 3599, "token_type": "Bearer"})


_LOCATION = re.compile(r"/v1/projects/([^/]+)/locations/([^/]+)")


def vertex(call: Call) -> Reply:
    """``projects.locations.get``. https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations/get"""
    where = _LOCATION.fullmatch(call.path)
    if where is None and call.tenant is not None:
        return Reply(404, _google_error(404, "NOT_FOUND", "The requested URL was not found on this server."))
    match call.fault:
        case "error_503":
            return Reply(503, _google_error(503, "UNAVAILABLE", "The service is currently unavailable."))
        case "rate_limited":
            told = "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests."
            return Reply(429, _google_error(429, "RESOURCE_EXHAUSTED", told))
        case "missing_scope":
            told = f"Permission 'aiplatform.locations.get' denied on resource '//aiplatform.googleapis.com{call.path}'."
            return Reply(403, _google_error(403, "PERMISSION_DENIED", told, "IAM_PERMISSION_DENIED"))
    if where is None or call.tenant is None or call.fault in ("revoked", "expired"):
        told = "Request had invalid authentication credentials. Expected OAuth 2 access token."
        return Reply(401, _google_error(401, "UNAUTHENTICATED", told, "ACCESS_TOKEN_TYPE_UNSUPPORTED"))
    project, location = where.groups()
    labels = {"cloud.googleapis.com/region": location}
    return Reply(200, {"name": f"projects/{project}/locations/{location}", "locationId": location, "labels": labels})


def _google_error(code: int, status: str, message: str, reason: str | None = None) -> dict[str, object]:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
    return {"error": {"code": code, "message": message, "status": status, "details": [info] if reason else []}}


def _soon(now: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(now, dt.UTC) + dt.timedelta(days=EXPIRING_DAYS)


VENDORS: Mapping[str, Speak] = {
    "github": github,
    "gitlab": gitlab,
    "linear": linear,
    "slack": slack,
    "vertex": vertex,
    "google": google,
}
"""Path prefix → what speaks there. ``google`` is the token endpoint and shares the faults of ``vertex``."""
