"""GitLab: personal, project and group access tokens and OAuth tokens, on gitlab.com and self-managed.

``GET /personal_access_tokens/self`` tells an access token's state, scopes and end, and needs no scope. What is no
access token (OAuth), or an instance before 15.5, is asked for its user instead; and an OAuth token for its scopes,
where some are required.
https://docs.gitlab.com/api/personal_access_tokens/
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AwareDatetime, FailFast

from registry import forecast
from registry.advice import advice
from registry.check import CheckSession
from registry.classify import Facts, Rule, facts_of, wait_until
from registry.connector import BearerAuth, ConnectorConfig, ConnectorMetadata, Limit, OAuth2Auth, StatusPage
from registry.errors import CheckFailed
from registry.health import Fault, Reason
from registry.http import Answer
from registry.vendor import (
    Absent,
    Document,
    ScopedSettings,
    VendorConnector,
    error_body,
    read_settings,
    require_scopes,
    reveal,
)

_DOCS = "https://docs.gitlab.com"
_AUTH = f"{_DOCS}/api/rest/authentication/"
_TOKENS = f"{_DOCS}/user/profile/personal_access_tokens/"
_SCOPES = f"{_TOKENS}#personal-access-token-scopes"
_ERRORS = f"{_DOCS}/api/rest/troubleshooting/"
_USERS = f"{_DOCS}/administration/moderate_users/"
_LIMITS = f"{_DOCS}/administration/settings/user_and_ip_rate_limits/#response-headers"
_UPKEEP = f"{_DOCS}/administration/maintenance_mode/"
_QUOTAS = f"{_DOCS}/user/gitlab_com/#rate-limits-on-gitlabcom"
_NETWORK = f"{_DOCS}/user/group/access_and_permissions/#restrict-group-access-by-ip-address"

_ENDED = r"token (is|has) expired|expired token"
_BLOCKED = r"blocked|banned|deactivated|password (has )?expired|pending approval|not confirmed|accept the terms"

RULES: tuple[Rule, ...] = (
    Rule(Reason.RATE_LIMITED, "the rate limit is used up", _LIMITS, (429,), page=True),
    Rule(Reason.VENDOR_ERROR, "the instance is in maintenance mode", _UPKEEP, (503,), message="maintenance|read-only"),
    Rule(Reason.CREDENTIAL_EXPIRED, "the token has expired", _TOKENS, (401,), message=_ENDED),
    Rule(Reason.CREDENTIAL_REJECTED, "the token was revoked", _TOKENS, (401,), message="revoked"),
    Rule(Reason.PERMISSION_DENIED, "the token must be used with DPoP", _AUTH, (401,), code=("dpop_error",)),
    Rule(Reason.CREDENTIAL_REJECTED, "the token is not accepted", _AUTH, (401,)),
    Rule(Reason.PERMISSION_DENIED, "the token lacks a scope", _SCOPES, (403,), code=("insufficient_scope",)),
    Rule(Reason.PERMISSION_DENIED, "the token lacks a scope", _SCOPES, (403,), code=("insufficient_granular_scope",)),
    Rule(Reason.ACCOUNT_SUSPENDED, "the user is blocked or inactive", _USERS, (403,), message=_BLOCKED),
    Rule(Reason.PERMISSION_DENIED, "an IP restriction keeps us out", _NETWORK, (403,), message=r"\bIP\b"),
    Rule(Reason.PERMISSION_DENIED, "the token may not do this", _ERRORS, (403,)),
    Rule(Reason.NOT_FOUND, "there is no GitLab API at this address", _ERRORS, (404, 410)),
    Rule(Reason.MONITOR_ERROR, "GitLab refuses this request", _ERRORS, (400, 405, 406, 415), fault=Fault.PLATFORM),
)

ACTIONS = advice(
    "GitLab",
    "https://status.gitlab.com",
    {
        Reason.RATE_LIMITED: "Ask the tenant what else uses up this user's rate limit, or to have it raised.",
        Reason.QUOTA_LOW: "Ask the tenant to reduce other use of this GitLab user, or to raise its rate limit.",
        Reason.CREDENTIAL_EXPIRING: "Ask the tenant to rotate the GitLab token before it expires.",
        Reason.CREDENTIAL_EXPIRED: "Ask the tenant to create a new GitLab token and to save it here.",
        Reason.CREDENTIAL_REJECTED: "Ask the tenant for a new GitLab token: this one was revoked or is wrong.",
        Reason.PERMISSION_DENIED: "Ask the tenant for a GitLab token with the missing scope.",
        Reason.ACCOUNT_SUSPENDED: "Ask the tenant to have the token's GitLab user unblocked or reactivated.",
        Reason.NOT_FOUND: "Ask the tenant for the right address of its GitLab instance.",
    },
)

IMPLIED: Mapping[str, tuple[str, ...]] = {
    "api": ("read_api", "read_user", "read_repository", "write_repository", "read_registry", "write_registry"),
    "read_api": ("read_user",),
    "write_repository": ("read_repository",),
    "write_registry": ("read_registry",),
}
"""Scopes that contain others. https://docs.gitlab.com/user/profile/personal_access_tokens/"""


class AccessToken(Document):
    """The answer of ``GET /personal_access_tokens/self``; a token ends at 00:00 UTC of `expires_at`."""

    active: bool
    revoked: bool
    scopes: Annotated[tuple[str, ...], FailFast()]
    expires_at: dt.date | AwareDatetime | None = None
    user_id: int | None = None


class User(Document):
    """The answer of ``GET /user``. https://docs.gitlab.com/api/users/"""

    id: int
    state: str = "active"


class Grant(Document):
    """The answer of ``GET /oauth/token/info``. https://docs.gitlab.com/api/oauth2/"""

    scope: Annotated[tuple[str, ...], FailFast()]


class GitLab(VendorConnector):
    """One tenant's GitLab token. `base_url` is the instance's address, without ``/api/v4``."""

    manifest = ConnectorMetadata(
        name="gitlab",
        version="1.0.0",
        title="GitLab",
        default_base_url="https://gitlab.com",
        auth_methods=("bearer", "oauth2"),
        steps=("api", "auth", "permissions", "quota"),
        documentation=f"{_DOCS}/api/rest/",
        status_page=StatusPage(
            format="statusio", url="https://api.status.io/1.0/status/5b36dc6502d06804c08349f7", concerns=("API",)
        ),
        settings=ScopedSettings,
        limits=(Limit(requests=2_000, seconds=60, per="user", documentation=_QUOTAS),),
    )
    actions = ACTIONS
    rules = RULES
    speaks_json = True

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__(config)
        self.settings = read_settings(ScopedSettings, config)

    async def check(self, session: CheckSession) -> None:
        """Ask the token about itself, or for its user where that cannot be asked."""
        match self.config.auth:
            case BearerAuth(token=secret):
                await self._check_token(session, {"PRIVATE-TOKEN": reveal(secret)})
            case OAuth2Auth(access_token=secret):
                await self._check_user(session, {"Authorization": f"Bearer {reveal(secret)}"})

    @classmethod
    async def check_service(cls, session: CheckSession, base_url: str) -> None:
        """``GET /version`` refuses whoever has no token, with 401. https://docs.gitlab.com/api/version/"""
        await cls.is_there(session, "GET", f"{base_url}/api/v4/version", (200, 401))

    @classmethod
    def facts(cls, answer: Answer) -> Facts:
        """OAuth errors have ``error`` and ``error_description``, others have ``message``."""
        body = error_body(answer)
        told = body.get("error_description") or body.get("message") or ""
        facts = facts_of(answer, (body.get("error"),), told, cls.kept)
        reset = forecast.number(answer.headers.get("ratelimit-reset"))
        if facts.retry_after is None and reset and answer.status == 429:
            return dataclasses.replace(facts, retry_after=wait_until(reset, answer.headers))
        return facts

    def limits(self, session: CheckSession, answer: Answer) -> None:
        """``RateLimit-*``, where the instance sends them; the reset is in Unix seconds."""
        limit, left, reset = (
            forecast.number(answer.headers.get(f"ratelimit-{name}")) for name in ("limit", "remaining", "reset")
        )
        forecast.quota(session, limit, left, None if reset is None else reset * 1000)

    async def _check_token(self, session: CheckSession, headers: Mapping[str, str]) -> None:
        url = f"{self.base_url}/api/v4/personal_access_tokens/self"
        try:
            reply = await self.ask(session, "GET", url, AccessToken, headers=headers, absent=(400, 404))
        except Absent:
            await self._check_user(session, headers)
            return
        token = reply.body
        ends_ms = None if token.expires_at is None else _ends_ms(token.expires_at)
        with session.step("auth"):
            _require_active(token, over=ends_ms is not None and ends_ms <= session.now_ms)
            forecast.expiry(session, ends_ms)
        self._look_at_scopes(session, token.scopes)
        with session.step("quota"):
            self.limits(session, reply.answer)

    async def _check_user(self, session: CheckSession, headers: Mapping[str, str]) -> None:
        reply = await self.ask(session, "GET", f"{self.base_url}/api/v4/user", User, headers=headers)
        with session.step("auth"):
            if reply.body.state != "active":
                raise CheckFailed(Reason.ACCOUNT_SUSPENDED, f"the token's user is {reply.body.state}")
            self.expiry(session)
        if self.settings.required_scopes:
            await self._ask_for_scopes(session, headers)
        with session.step("quota"):
            self.limits(session, reply.answer)

    async def _ask_for_scopes(self, session: CheckSession, headers: Mapping[str, str]) -> None:
        """Only an OAuth token can be asked for what it was granted; an access token of an old instance cannot."""
        if "Authorization" not in headers:
            session.note(scopes="not told by this instance")
            return
        answer = await session.request("GET", f"{self.base_url}/oauth/token/info", headers=headers)
        grant = self.judge(answer, Grant)
        if not isinstance(grant, CheckFailed):
            self._look_at_scopes(session, grant.scope)
        elif grant.reason in (Reason.VENDOR_ERROR, Reason.RATE_LIMITED):
            with session.step("api"):
                raise grant
        else:  # the token works: it is this place that is kept from us, as by a gateway
            session.note(scopes="not told by this instance")

    def _look_at_scopes(self, session: CheckSession, granted: Sequence[str]) -> None:
        with session.step("permissions"):
            session.note(scopes=" ".join(granted))
            implied = [scope for parent in granted for scope in IMPLIED.get(parent, ())]
            require_scopes(session, self.settings.required_scopes, {*granted, *implied})


def _require_active(token: AccessToken, *, over: bool) -> None:
    if token.revoked:
        raise CheckFailed(Reason.CREDENTIAL_REJECTED, "the token was revoked")
    if not token.active:
        reason = Reason.CREDENTIAL_EXPIRED if over else Reason.CREDENTIAL_REJECTED
        raise CheckFailed(reason, "the token has expired" if over else "the token is not active")


def _ends_ms(ends: dt.date | dt.datetime) -> int:
    if not isinstance(ends, dt.datetime):
        ends = dt.datetime(ends.year, ends.month, ends.day, tzinfo=dt.UTC)
    return int(ends.timestamp() * 1000)
