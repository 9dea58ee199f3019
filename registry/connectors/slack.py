"""Slack: bot and user tokens. Errors come with HTTP 200 and ``"ok": false``.

https://docs.slack.dev/reference/methods/auth.test
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from registry import forecast
from registry.advice import advice
from registry.check import CheckSession
from registry.classify import Facts, Rule, facts_of
from registry.connector import BearerAuth, ConnectorConfig, ConnectorMetadata, OAuth2Auth, StatusPage
from registry.errors import InvalidConfig
from registry.health import Fault, Reason
from registry.http import Answer
from registry.vendor import Document, ScopedSettings, VendorConnector, error_body, read_settings, require_scopes, reveal

_DOCS = "https://docs.slack.dev"
_ERRORS = f"{_DOCS}/reference/methods/auth.test#errors"
_LIMITS = f"{_DOCS}/apis/web-api/rate-limits"
_ROTATION = f"{_DOCS}/authentication/using-token-rotation"

_LIMITED = ("ratelimited", "rate_limited")
_FAILED = ("internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org")
_REJECTED = ("invalid_auth", "not_authed", "token_revoked")
_SUSPENDED = ("account_inactive", "user_removed_from_team", "team_disabled")
_SCOPE = ("missing_scope", "no_permission", "not_allowed_token_type")
_POLICY = ("access_denied", "accesslimited", "team_access_not_granted", "ekm_access_denied", "enterprise_is_restricted")
_LOGIN = ("org_login_required", "two_factor_setup_required")
_ARGUMENTS = ("invalid_arg_name", "invalid_arguments", "invalid_array_arg", "invalid_charset", "invalid_form_data")
_METHOD = ("invalid_post_type", "missing_post_type", "invalid_json", "json_not_object", "upgrade_required")
_RETIRED = ("deprecated_endpoint", "method_deprecated", "unknown_method")

RULES: tuple[Rule, ...] = (
    Rule(Reason.RATE_LIMITED, "the rate limit is used up", _LIMITS, code=_LIMITED),
    Rule(Reason.VENDOR_ERROR, "Slack failed", _ERRORS, code=_FAILED),
    Rule(Reason.CREDENTIAL_EXPIRED, "the token has expired", _ROTATION, code=("token_expired",)),
    Rule(Reason.CREDENTIAL_REJECTED, "the token is not accepted", _ERRORS, code=_REJECTED),
    Rule(Reason.ACCOUNT_SUSPENDED, "the user or workspace is gone", _ERRORS, code=_SUSPENDED),
    Rule(Reason.PERMISSION_DENIED, "the token lacks a scope", _ERRORS, code=_SCOPE),
    Rule(Reason.PERMISSION_DENIED, "the workspace's policy refuses us", _ERRORS, code=_POLICY),
    Rule(Reason.PERMISSION_DENIED, "the organisation requires another login", _ERRORS, code=_LOGIN),
    Rule(Reason.MONITOR_ERROR, "Slack refuses this request", _ERRORS, code=_ARGUMENTS, fault=Fault.PLATFORM),
    Rule(Reason.MONITOR_ERROR, "Slack refuses this request", _ERRORS, code=_METHOD, fault=Fault.PLATFORM),
    Rule(Reason.MONITOR_ERROR, "Slack withdrew this method", _ERRORS, code=_RETIRED, fault=Fault.PLATFORM),
)

ACTIONS = advice(
    "Slack",
    "https://slack-status.com",
    {
        Reason.RATE_LIMITED: "Ask the tenant what else calls Slack with this app in this workspace.",
        Reason.QUOTA_LOW: "Ask the tenant to reduce other use of this Slack app.",
        Reason.CREDENTIAL_EXPIRING: "Ask the tenant to have the Slack app refresh its rotated token.",
        Reason.CREDENTIAL_EXPIRED: "Ask the tenant to re-install the Slack app: its rotated token was not refreshed.",
        Reason.CREDENTIAL_REJECTED: "Ask the tenant to re-install the Slack app: its token was revoked or is wrong.",
        Reason.PERMISSION_DENIED: "Ask the tenant to re-install the Slack app with the scopes it needs.",
        Reason.ACCOUNT_SUSPENDED: "Ask the tenant to restore the workspace or user that installed the Slack app.",
        Reason.NOT_FOUND: "Correct the address: Slack's API is at https://slack.com.",
    },
)


ROTATED_MS = 3_600_000
"""A rotated token lives 12 hours, so its end is always near; what is not refreshed an hour before is forgotten."""


class Identity(Document):
    """Who the token is, when it is accepted; `expires_in` is in seconds and only there for rotated tokens."""

    ok: Literal[True]
    team: str
    team_id: str
    user_id: str
    expires_in: int | None = None


class Ping(Document):
    """The answer of ``api.test``. https://docs.slack.dev/reference/methods/api.test"""

    ok: Literal[True]


class Slack(VendorConnector):
    """One tenant's Slack token."""

    manifest = ConnectorMetadata(
        name="slack",
        version="1.0.0",
        title="Slack",
        default_base_url="https://slack.com",
        auth_methods=("bearer", "oauth2"),
        steps=("api", "auth", "permissions", "quota"),
        documentation=f"{_DOCS}/apis/web-api",
        status_page=StatusPage(
            format="slack",
            url="https://slack-status.com/api/v2.0.0/current",
            concerns=("Apps/Integrations/APIs", "Connectivity"),
        ),
        settings=ScopedSettings,
    )
    actions = ACTIONS
    rules = RULES
    speaks_json = True
    kept: ClassVar[Mapping[str, str]] = {"request_id": "x-slack-req-id"}

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__(config)
        self.settings = read_settings(ScopedSettings, config)

    async def check(self, session: CheckSession) -> None:
        """``auth.test``, which needs no scope and costs no tiered limit; a header tells the token's scopes."""
        headers = {"Authorization": f"Bearer {self._bearer()}", "Content-Type": "application/x-www-form-urlencoded"}
        reply = await self.ask(session, "POST", f"{self.base_url}/api/auth.test", Identity, headers=headers)
        ends_in = reply.body.expires_in
        with session.step("auth"):
            session.note(workspace=reply.body.team, team_id=reply.body.team_id)
            ends_ms = self.expires_ms if ends_in is None else session.now_ms + ends_in * 1000
            forecast.expiry(session, ends_ms, refreshed_ms=ROTATED_MS)
        with session.step("permissions"):
            scopes = [scope.strip() for scope in reply.answer.headers.get("x-oauth-scopes", "").split(",")]
            session.note(scopes=" ".join(scopes))
            require_scopes(session, self.settings.required_scopes, scopes)

    @classmethod
    async def check_service(cls, session: CheckSession, base_url: str) -> None:
        """``api.test`` needs no token."""
        await cls.is_there(session, "POST", f"{base_url}/api/api.test", (200,), shape=Ping)

    @classmethod
    def facts(cls, answer: Answer) -> Facts:
        """``error`` is the code, whatever the HTTP status; a missing scope is told in ``needed``."""
        body = error_body(answer)
        needed = body.get("needed")
        return facts_of(answer, (body.get("error"),), f"needs {needed}" if isinstance(needed, str) else "", cls.kept)

    def _bearer(self) -> str:
        match self.config.auth:
            case BearerAuth(token=secret) | OAuth2Auth(access_token=secret):
                token = reveal(secret)
                if token.startswith("xapp-"):
                    raise InvalidConfig("auth: an app-level token only opens sockets: give the app's bot or user token")
                return token
        raise InvalidConfig("auth.type: Slack takes bearer or oauth2")
