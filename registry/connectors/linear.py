"""Linear: API keys and OAuth tokens. One GraphQL query tells whose credential it is; errors come in the body.

https://linear.app/developers/graphql
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from registry import forecast
from registry.advice import advice
from registry.check import CheckSession
from registry.classify import Facts, Rule, facts_of, wait_until
from registry.connector import BearerAuth, ConnectorMetadata, OAuth2Auth, StatusPage
from registry.errors import InvalidConfig
from registry.health import Fault, Reason
from registry.http import Answer
from registry.vendor import Document, Settings, VendorConnector, error_body, reveal

_DOCS = "https://linear.app/developers"
_AUTH = f"{_DOCS}/graphql#authentication"
_OAUTH = f"{_DOCS}/oauth-2-0-authentication"
_ERRORS = f"{_DOCS}/graphql#error-handling"
_LIMITS = f"{_DOCS}/rate-limiting"
_TYPES = "https://github.com/linear/linear/blob/master/packages/sdk/src/error.ts"

QUERY = "query Health { viewer { id } organization { id name urlKey } }"
"""The cheapest query that needs a credential: two objects, four fields."""

_INNER = ("internal error", "network error", "bootstrap error", "lock timeout", "INTERNAL_SERVER_ERROR")
_OURS = ("graphql error", "invalid input", "GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED", "BAD_USER_INPUT")
_LIMITED = ("RATELIMITED", "ratelimited")
_UNKNOWN = ("AUTHENTICATION_ERROR", "authentication error", "UNAUTHENTICATED")
_REFUSED = ("FORBIDDEN", "forbidden", "feature not accessible", "usage limit exceeded")
_SUSPENDED = r"(user|account|workspace|organization).*(suspended|deactivated|disabled)"

RULES: tuple[Rule, ...] = (
    Rule(Reason.RATE_LIMITED, "the rate limit is used up", _LIMITS, code=_LIMITED),
    Rule(Reason.VENDOR_ERROR, "Linear failed", _TYPES, code=_INNER),
    Rule(Reason.MISCONFIGURED, "an API key must be of type bearer", _AUTH, message="remove the Bearer prefix"),
    Rule(Reason.ACCOUNT_SUSPENDED, "the user or workspace is suspended", _ERRORS, (400, 401, 403), message=_SUSPENDED),
    Rule(Reason.CREDENTIAL_EXPIRED, "the token has expired", _OAUTH, code=_UNKNOWN, message=r"\bexpired\b"),
    Rule(Reason.CREDENTIAL_REJECTED, "the credential is not accepted", _AUTH, code=_UNKNOWN),
    Rule(Reason.PERMISSION_DENIED, "the credential may not read the workspace", _OAUTH, code=_REFUSED),
    Rule(Reason.MONITOR_ERROR, "Linear refuses this query", _ERRORS, code=_OURS, fault=Fault.PLATFORM),
    Rule(Reason.VENDOR_ERROR, "Linear failed", _TYPES, (200, 400), code=("other", "unknown", "user error")),
    Rule(Reason.CREDENTIAL_REJECTED, "the credential is not accepted", _AUTH, (401,)),
    Rule(Reason.PERMISSION_DENIED, "the credential may not read the workspace", _OAUTH, (403,)),
    Rule(Reason.NOT_FOUND, "there is no Linear API at this address", _ERRORS, (404, 410)),
)

ACTIONS = advice(
    "Linear",
    "https://linearstatus.com",
    {
        Reason.RATE_LIMITED: "Ask the tenant what else uses up this Linear user's rate limit.",
        Reason.QUOTA_LOW: "Ask the tenant to reduce other use of this Linear user's API key.",
        Reason.CREDENTIAL_EXPIRING: "Ask the tenant to authorise the Linear app again before the token expires.",
        Reason.CREDENTIAL_EXPIRED: "Ask the tenant to authorise the Linear app again: its token has expired.",
        Reason.CREDENTIAL_REJECTED: "Ask the tenant for a new Linear API key, or to authorise the app again.",
        Reason.PERMISSION_DENIED: "Ask the tenant to authorise the Linear app with the scope `read`.",
        Reason.ACCOUNT_SUSPENDED: "Ask the tenant to have the Linear user or workspace restored.",
        Reason.NOT_FOUND: "Correct the address: Linear's API is at https://api.linear.app.",
    },
)


class Viewer(Document):
    """Whose credential it is."""

    id: str


class Organization(Document):
    """The workspace it belongs to."""

    id: str
    name: str
    urlKey: str  # noqa: N815 - the vendor's name


class Data(Document):
    """The result of `QUERY`."""

    viewer: Viewer
    organization: Organization


class Result(Document):
    """A GraphQL answer without errors."""

    data: Data
    errors: None = None


class Linear(VendorConnector):
    """One tenant's Linear credential: an API key (``bearer``) or an OAuth token (``oauth2``)."""

    manifest = ConnectorMetadata(
        name="linear",
        version="1.0.0",
        title="Linear",
        default_base_url="https://api.linear.app",
        auth_methods=("bearer", "oauth2"),
        steps=("api", "auth", "permissions", "quota"),
        documentation=f"{_DOCS}/graphql",
        status_page=StatusPage(
            format="statuspage", url="https://linearstatus.com/api/v2/summary.json", concerns=("Linear API",)
        ),
        settings=Settings,
        required_scopes=("read",),
    )
    actions = ACTIONS
    rules = RULES
    speaks_json = True
    kept: ClassVar[Mapping[str, str]] = {"request_id": "x-request-id", "complexity": "x-complexity"}

    async def check(self, session: CheckSession) -> None:
        """Ask who this is."""
        url = f"{self.base_url}/graphql"
        reply = await self.ask(session, "POST", url, Result, headers=self._headers(), json={"query": QUERY})
        with session.step("auth"):
            session.note(workspace=reply.body.data.organization.urlKey)
            self.expiry(session)
        with session.step("quota"):
            self.limits(session, reply.answer)

    @classmethod
    async def check_service(cls, session: CheckSession, base_url: str) -> None:
        """Without a credential, the API answers with an authentication error."""
        await cls.is_there(session, "POST", f"{base_url}/graphql", (200, 400, 401), json={"query": "{ __typename }"})

    @classmethod
    def facts(cls, answer: Answer) -> Facts:
        """The first GraphQL error's ``extensions``; limits end at a reset in Unix milliseconds."""
        errors = error_body(answer).get("errors")
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
        extensions = first.get("extensions")
        extensions = extensions if isinstance(extensions, dict) else {}
        told = extensions.get("userPresentableMessage") or first.get("message")
        facts = facts_of(answer, (extensions.get("code"), extensions.get("type")), told, cls.kept)
        reset = _reset_ms(answer.headers)
        if facts.retry_after is None and reset and any(code in _LIMITED for code in facts.codes):
            return dataclasses.replace(facts, retry_after=wait_until(reset / 1000, answer.headers))
        return facts

    def limits(self, session: CheckSession, answer: Answer) -> None:
        """Of the request and the complexity limit, the one that is nearer to its end."""
        kinds = [_limit(answer.headers, kind) for kind in ("requests", "complexity")]
        told = [(left / limit, limit, left, reset) for limit, left, reset in kinds if limit and left is not None]
        if told:
            _, limit, left, reset = min(told, key=lambda row: row[0])
            forecast.quota(session, limit, left, reset)

    def _headers(self) -> Mapping[str, str]:
        match self.config.auth:
            case OAuth2Auth(access_token=secret):
                return {"Authorization": f"Bearer {reveal(secret)}"}
            case BearerAuth(token=secret):
                return {"Authorization": reveal(secret)}
        raise InvalidConfig("auth.type: Linear takes bearer or oauth2")


def _limit(headers: Mapping[str, str], kind: str) -> tuple[int | None, int | None, int | None]:
    limit, left, reset = (
        forecast.number(headers.get(f"x-ratelimit-{kind}-{name}")) for name in ("limit", "remaining", "reset")
    )
    return limit, left, reset


def _reset_ms(headers: Mapping[str, str]) -> int | None:
    """When the limit that is used up is refilled."""
    resets = [reset for _, left, reset in (_limit(headers, kind) for kind in ("requests", "complexity")) if left == 0]
    return max((reset for reset in resets if reset), default=None)
