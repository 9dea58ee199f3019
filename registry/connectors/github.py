"""GitHub: personal access tokens, OAuth tokens and App installations, on github.com and Enterprise Server.

``GET /rate_limit`` tells everything that is free to know: that the token is accepted, its scopes, its end, and the
quota. https://docs.github.com/en/rest/rate-limit/rate-limit
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar

from pydantic import AwareDatetime, SecretStr

from registry import forecast
from registry.advice import advice
from registry.check import CheckSession
from registry.classify import TEXT_LIMIT, Facts, Rule, facts_of, wait_until
from registry.connector import (
    BearerAuth,
    ConnectorConfig,
    ConnectorMetadata,
    GitHubAppAuth,
    Limit,
    OAuth2Auth,
    StatusPage,
)
from registry.errors import CheckFailed
from registry.health import Fault, Reason
from registry.http import BODY_LIMIT, Answer
from registry.jwt import sign
from registry.tokens import Token
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

_DOCS = "https://docs.github.com/en"
_ERRORS = f"{_DOCS}/rest/using-the-rest-api/troubleshooting-the-rest-api"
_LIMITS = f"{_DOCS}/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit"
_QUOTAS = f"{_DOCS}/rest/using-the-rest-api/rate-limits-for-the-rest-api"
_LOGIN = f"{_DOCS}/rest/authentication/authenticating-to-the-rest-api#failed-login-limit"
_AGENT = f"{_DOCS}/rest/using-the-rest-api/getting-started-with-the-rest-api#user-agent"
_TOKEN = f"{_DOCS}/rest/apps/apps#create-an-installation-access-token-for-an-app"
_APP = f"{_DOCS}/apps/creating-github-apps/authenticating-with-a-github-app"
_JWT = f"{_APP}/generating-a-json-web-token-jwt-for-a-github-app"
_ENDS = f"{_DOCS}/authentication/keeping-your-account-and-data-secure/token-expiration-and-revocation"
_SSO = f"{_DOCS}/enterprise-cloud@latest/authentication/authenticating-with-single-sign-on"
_ORG = f"{_DOCS}/enterprise-cloud@latest/organizations/keeping-your-organization-secure"

_LIMITED = (403, 429)
_USED_UP = ("x-ratelimit-remaining", "^0$")
_CLOCK = r"'(issued at|expiration time)' claim|claim \('(iat|exp)'\)"

RULES: tuple[Rule, ...] = (
    # Limits first: with the same statuses, they say nothing against the credential.
    Rule(Reason.RATE_LIMITED, "the rate limit is used up", _LIMITS, _LIMITED, header=_USED_UP, page=True),
    Rule(Reason.RATE_LIMITED, "the rate limit is used up", _LIMITS, _LIMITED, message="API rate limit exceeded"),
    Rule(Reason.RATE_LIMITED, "a secondary limit holds", _LIMITS, _LIMITED, message="secondary rate limit|abuse"),
    Rule(Reason.RATE_LIMITED, "GitHub asks to wait", _LIMITS, _LIMITED, header=("retry-after", "."), page=True),
    Rule(Reason.RATE_LIMITED, "too many failed logins", _LOGIN, (403,), message="login attempts exceeded"),
    # The App's own assertion
    Rule(Reason.MONITOR_ERROR, "our clock is wrong", _JWT, (401,), message=_CLOCK, fault=Fault.PLATFORM),
    Rule(Reason.MISCONFIGURED, "there is no such App", _JWT, (401, 404), message="integration not found|'iss'"),
    Rule(Reason.CREDENTIAL_REJECTED, "the App's private key is not accepted", _JWT, (401,), message="JSON web token"),
    # The credential
    Rule(Reason.CREDENTIAL_EXPIRED, "the token has expired", _ENDS, (401,), message=r"\bexpired\b"),
    Rule(Reason.CREDENTIAL_REJECTED, "the token is not accepted", _ERRORS, (401,)),
    Rule(Reason.ACCOUNT_SUSPENDED, "the installation is suspended", _TOKEN, (403,), message="installation.*suspended"),
    Rule(Reason.ACCOUNT_SUSPENDED, "the account is suspended", _ERRORS, (403,), message="account.*(suspended|locked)"),
    # What it may do
    Rule(Reason.PERMISSION_DENIED, "the token lacks single sign-on", _SSO, (403,), header=("x-github-sso", "required")),
    Rule(Reason.PERMISSION_DENIED, "the token lacks single sign-on", _SSO, (403,), message=r"\bSAML\b|\bSSO\b"),
    Rule(Reason.PERMISSION_DENIED, "an IP allow list keeps us out", _ORG, (403,), message="IP allow list"),
    Rule(
        Reason.MONITOR_ERROR,
        "GitHub refuses this client",
        _AGENT,
        (403,),
        message="has a user-agent|administrative rules",
        fault=Fault.PLATFORM,
        page=True,
    ),
    Rule(Reason.PERMISSION_DENIED, "the token may not do this", _ERRORS, (403,)),
    Rule(Reason.NOT_FOUND, "there is no such installation or API", _ERRORS, (404, 410)),
    Rule(Reason.MONITOR_ERROR, "GitHub refuses this request", _ERRORS, (400, 422), fault=Fault.PLATFORM),
)

ACTIONS = advice(
    "GitHub",
    "https://www.githubstatus.com",
    {
        Reason.RATE_LIMITED: "Ask the tenant what else uses up this token's rate limit, or to install the GitHub App.",
        Reason.QUOTA_LOW: "Ask the tenant to reduce other use of this token, or to install the GitHub App instead.",
        Reason.CREDENTIAL_EXPIRING: "Ask the tenant to regenerate the GitHub token before it expires.",
        Reason.CREDENTIAL_EXPIRED: "Ask the tenant to regenerate the GitHub token and to save the new one.",
        Reason.CREDENTIAL_REJECTED: "Ask the tenant for a new GitHub token: this one was revoked or is wrong.",
        Reason.PERMISSION_DENIED: "Ask the tenant to give the token the missing scope or to authorise it for SSO.",
        Reason.ACCOUNT_SUSPENDED: "Ask the tenant to have the GitHub account or App installation unsuspended.",
        Reason.MISCONFIGURED: "Correct the tenant's GitHub configuration as the error says (App id, key, address).",
        Reason.NOT_FOUND: "Ask the tenant to install the GitHub App again, or for the right API address.",
    },
)

IMPLIED: Mapping[str, tuple[str, ...]] = {
    "repo": ("repo:status", "repo_deployment", "public_repo", "repo:invite", "security_events"),
    "admin:repo_hook": ("write:repo_hook", "read:repo_hook"),
    "write:repo_hook": ("read:repo_hook",),
    "admin:org": ("write:org", "read:org"),
    "write:org": ("read:org",),
    "admin:public_key": ("write:public_key", "read:public_key"),
    "write:public_key": ("read:public_key",),
    "write:packages": ("read:packages",),
    "user": ("read:user", "user:email", "user:follow"),
    "project": ("read:project",),
}
"""Scopes that contain others. https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps"""


class Rate(Document):
    """One category's limit; `reset` is Unix seconds."""

    limit: int
    remaining: int
    reset: int


class Resources(Document):
    """The category that counts for a client of the REST API."""

    core: Rate


class RateLimit(Document):
    """The answer of ``GET /rate_limit``. https://docs.github.com/en/rest/rate-limit/rate-limit"""

    resources: Resources


class Meta(Document):
    """The answer of ``GET /meta``, of which nothing is needed: long lists of addresses.

    https://docs.github.com/en/rest/meta/meta
    """

    largest = BODY_LIMIT


class InstallationToken(Document):
    """The answer to an App's assertion. https://docs.github.com/en/rest/apps/apps"""

    token: SecretStr
    expires_at: AwareDatetime


class GitHub(VendorConnector):
    """One tenant's GitHub credential. On Enterprise Server, `base_url` is ``https://HOST/api/v3``."""

    manifest = ConnectorMetadata(
        name="github",
        version="1.0.0",
        title="GitHub",
        default_base_url="https://api.github.com",
        auth_methods=("bearer", "oauth2", "github_app"),
        steps=("api", "auth", "permissions", "quota"),
        documentation=f"{_DOCS}/rest",
        status_page=StatusPage(
            format="statuspage", url="https://www.githubstatus.com/api/v2/summary.json", concerns=("API Requests",)
        ),
        settings=ScopedSettings,
        limits=(Limit(requests=5_000, seconds=3_600, per="user or installation", documentation=_QUOTAS),),
    )
    actions = ACTIONS
    rules = RULES
    speaks_json = True
    kept: ClassVar[Mapping[str, str]] = {
        "request_id": "x-github-request-id",
        "accepted_permissions": "x-accepted-github-permissions",
    }

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__(config)
        self.settings = read_settings(ScopedSettings, config)

    async def check(self, session: CheckSession) -> None:
        """Ask for the rate limit: with the token, or with one exchanged for the App's key."""

        async def check(token: str) -> None:
            await self._check(session, token)

        match self.config.auth:
            case GitHubAppAuth() as app:
                key = reveal(app.private_key)
                credential = f"{self.base_url} {app.app_id} {app.installation_id} {key}"
                await self.exchanged(session, credential, lambda: self._exchange(session, app, key), check)
            case BearerAuth(token=secret) | OAuth2Auth(access_token=secret):
                await check(reveal(secret))

    @classmethod
    async def check_service(cls, session: CheckSession, base_url: str) -> None:
        """``GET /rate_limit`` answers everyone; Enterprise Server may say 401 (private) or 404 (without limits)."""
        await cls.is_there(session, "GET", f"{base_url}/rate_limit", (200, 401, 404))

    @classmethod
    def facts(cls, answer: Answer) -> Facts:
        """GitHub tells errors by ``message``, or as text, and when a primary limit ends by ``x-ratelimit-reset``."""
        told = error_body(answer).get("message") or answer.body[:TEXT_LIMIT].decode(errors="replace")
        facts = facts_of(answer, message=told, kept=cls.kept)
        reset = forecast.number(answer.headers.get("x-ratelimit-reset"))
        if facts.retry_after is None and reset and answer.headers.get("x-ratelimit-remaining") == "0":
            return dataclasses.replace(facts, retry_after=wait_until(reset, answer.headers))
        return facts

    def limits(self, session: CheckSession, answer: Answer) -> None:
        """``x-ratelimit-*``; the reset is in Unix seconds."""
        limit, left, reset = (
            forecast.number(answer.headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining", "reset")
        )
        forecast.quota(session, limit, left, None if reset is None else reset * 1000)

    async def _check(self, session: CheckSession, token: str) -> None:
        headers = _headers(token)
        try:
            reply = await self.ask(
                session, "GET", f"{self.base_url}/rate_limit", RateLimit, headers=headers, absent=(404,)
            )
        except Absent:  # Enterprise Server without rate limits: any endpoint refuses a bad token
            meta = await self.ask(session, "GET", f"{self.base_url}/meta", Meta, headers=headers)
            self._look_at(session, meta.answer.headers)
            return
        self._look_at(session, reply.answer.headers)
        with session.step("quota"):
            core = reply.body.resources.core
            forecast.quota(session, core.limit, core.remaining, core.reset * 1000)

    def _look_at(self, session: CheckSession, told: Mapping[str, str]) -> None:
        """What the headers of any answer tell of the credential: when it ends, and what it may do.

        Fine-grained tokens and installations have permissions instead of scopes, and no header tells them.
        """
        with session.step("auth"):
            self.expiry(session, _ends_ms(told.get("github-authentication-token-expiration")))
        scopes, needed = told.get("x-oauth-scopes"), self.settings.required_scopes
        if scopes is not None:
            with session.step("permissions"):
                granted, contained = _scopes(scopes)
                session.note(scopes=granted)
                require_scopes(session, needed, contained)
        elif needed:
            session.note(scopes="not told for this kind of token")

    async def _exchange(self, session: CheckSession, app: GitHubAppAuth, key: str) -> Token:
        now = session.now_ms // 1000
        try:
            assertion = await sign(key, {"iat": now - 60, "exp": now + 540, "iss": app.app_id})
        except ValueError:
            raise CheckFailed(Reason.MISCONFIGURED, "auth.private_key: not a usable RSA key in PEM form") from None
        url = f"{self.base_url}/app/installations/{app.installation_id}/access_tokens"
        made = await self.fetch(session, url, InstallationToken, headers=_headers(assertion))
        return Token(made.token, int(made.expires_at.timestamp() * 1000))


@lru_cache(maxsize=256)
def _scopes(told: str) -> tuple[str, frozenset[str]]:
    """The scopes that the header names, and all that they contain. Most tokens have the same few."""
    granted = [scope.strip() for scope in told.split(",") if scope.strip()]
    implied = [scope for parent in granted for scope in IMPLIED.get(parent, ())]
    return " ".join(granted), frozenset([*granted, *implied])


def _headers(token: str) -> Mapping[str, str]:
    return {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }


def _ends_ms(told: str | None) -> int | None:
    """``2026-10-31 12:00:00 UTC`` or ``… +0200`` as Unix milliseconds."""
    if told is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(told.replace(" UTC", "+00:00").replace(" +", "+").replace(" -", "-"))
    except ValueError:
        return None
    return int(moment.timestamp() * 1000) if moment.tzinfo else None
