"""Vertex AI: a Google service account's key is exchanged for an access token, which then asks for the location.

The key is read and the assertion signed by google-auth, off the event loop; the exchange itself is a vendor call
like any other, so that limits, egress policy and deadline hold, and a token endpoint that hangs holds no thread.
https://developers.google.com/identity/protocols/oauth2/service-account#authorizingrequests
https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations/get
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from registry.advice import advice
from registry.check import CheckSession
from registry.classify import Facts, Rule, facts_of
from registry.connector import (
    ConnectorConfig,
    ConnectorMetadata,
    Limit,
    OAuth2Auth,
    SecretRef,
    ServiceAccountAuth,
    StatusPage,
)
from registry.errors import CheckFailed, InvalidConfig
from registry.health import Fault, Reason
from registry.http import Answer
from registry.jwt import sign
from registry.tokens import Token
from registry.vendor import Document, Settings, VendorConnector, error_body, read_settings, reveal

_DOCS = "https://cloud.google.com"
_TOKEN = "https://developers.google.com/identity/protocols/oauth2/service-account#error-codes"  # noqa: S105 - a URL
_CODES = f"{_DOCS}/apis/design/errors#handling_errors"
_REASONS = "https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto"
_ENABLE = f"{_DOCS}/service-usage/docs/enable-disable"
_BILLING = f"{_DOCS}/billing/docs/how-to/modify-project"
_SUSPEND = f"{_DOCS}/resource-manager/docs/project-suspension-guidelines"
_IAM = f"{_DOCS}/vertex-ai/docs/general/access-control"
_LIMITS = f"{_DOCS}/vertex-ai/generative-ai/docs/error-code-429"
_QUOTAS = f"{_DOCS}/vertex-ai/docs/quotas#request_quotas"
_PLACES = f"{_DOCS}/vertex-ai/docs/general/locations"
_PERIMETER = f"{_DOCS}/vpc-service-controls/docs/troubleshooting"

_CLOCK = r"reasonable timeframe|iat and exp|not yet valid"
_NO_ACCOUNT = r"account not found|account has been (deleted|disabled)|disabled"
_CLIENT = ("unauthorized_client", "invalid_client", "access_denied", "admin_policy_enforced", "org_internal")
_FAILED = ("internal_failure", "server_error", "temporarily_unavailable", "UNAVAILABLE", "INTERNAL", "UNKNOWN")
_LATE = ("DEADLINE_EXCEEDED", "ABORTED", "CANCELLED")
_OVER = ("CONSUMER_SUSPENDED", "ACCOUNT_STATE_INVALID")
_QUOTA = ("RATE_LIMIT_EXCEEDED", "RESOURCE_QUOTA_EXCEEDED")
_OAUTH = ("invalid_request", "unsupported_grant_type", "invalid_scope")

RULES: tuple[Rule, ...] = (
    # The token endpoint
    Rule(
        Reason.MONITOR_ERROR,
        "our clock is wrong",
        _TOKEN,
        code=("invalid_grant",),
        message=_CLOCK,
        fault=Fault.PLATFORM,
    ),
    Rule(Reason.ACCOUNT_SUSPENDED, "the account is gone", _TOKEN, code=("invalid_grant",), message=_NO_ACCOUNT),
    Rule(Reason.CREDENTIAL_REJECTED, "the key was deleted or is wrong", _TOKEN, code=("invalid_grant",)),
    Rule(Reason.ACCOUNT_SUSPENDED, "the account is disabled", _TOKEN, code=("disabled_client", "deleted_client")),
    Rule(Reason.PERMISSION_DENIED, "the account may not have a token", _TOKEN, code=_CLIENT),
    Rule(Reason.MONITOR_ERROR, "Google refuses our assertion", _TOKEN, code=_OAUTH, fault=Fault.PLATFORM),
    # Both
    Rule(Reason.RATE_LIMITED, "the project's quota is used up", _REASONS, code=_QUOTA),
    Rule(Reason.RATE_LIMITED, "capacity is used up", _LIMITS, code=("RESOURCE_EXHAUSTED",), fault=Fault.VENDOR),
    Rule(Reason.VENDOR_ERROR, "Google failed", _CODES, code=_FAILED),
    Rule(Reason.VENDOR_ERROR, "Google was too late", _CODES, code=_LATE),
    # Vertex AI
    Rule(Reason.PERMISSION_DENIED, "the Vertex AI API is not enabled", _ENABLE, code=("SERVICE_DISABLED",)),
    Rule(Reason.ACCOUNT_SUSPENDED, "billing is off", _BILLING, code=("BILLING_DISABLED",)),
    Rule(Reason.ACCOUNT_SUSPENDED, "the project is suspended", _SUSPEND, code=_OVER),
    Rule(Reason.NOT_FOUND, "there is no such project", _REASONS, code=("CONSUMER_INVALID",)),
    Rule(Reason.PERMISSION_DENIED, "a service perimeter keeps us out", _PERIMETER, code=("SECURITY_POLICY_VIOLATED",)),
    Rule(Reason.CREDENTIAL_EXPIRED, "the access token has expired", _REASONS, code=("ACCESS_TOKEN_EXPIRED",)),
    Rule(Reason.CREDENTIAL_REJECTED, "the access token is not accepted", _CODES, (401,)),
    Rule(Reason.NOT_FOUND, "there is no such location", _PLACES, (400,), message="region|location"),
    Rule(Reason.NOT_FOUND, "there is no such project", _CODES, (400,), message="project"),
    Rule(Reason.PERMISSION_DENIED, "the account may not see the project", _IAM, (403,)),
    Rule(Reason.NOT_FOUND, "there is no such project or location", _CODES, (404,), page=True),
    Rule(Reason.MONITOR_ERROR, "Google refuses this request", _CODES, (400, 405), fault=Fault.PLATFORM),
)

ACTIONS = advice(
    "Vertex AI",
    "https://status.cloud.google.com",
    {
        Reason.RATE_LIMITED: "Ask the tenant to raise its Vertex AI quota, or to reduce other use of the project.",
        Reason.QUOTA_LOW: "Ask the tenant to raise its Vertex AI quota.",
        Reason.CREDENTIAL_EXPIRING: "Ask the tenant to renew the access token, or to give a service-account key.",
        Reason.CREDENTIAL_EXPIRED: "Ask the tenant to renew the access token, or to give a service-account key.",
        Reason.CREDENTIAL_REJECTED: "Ask the tenant for a new service-account key: this one was deleted or is wrong.",
        Reason.PERMISSION_DENIED: "Ask the tenant to enable the Vertex AI API and grant the role Vertex AI User.",
        Reason.ACCOUNT_SUSPENDED: "Ask the tenant to restore the service account, the project or its billing.",
        Reason.NOT_FOUND: "Ask the tenant for the right project and a location where Vertex AI is offered.",
    },
)

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCE = "https://oauth2.googleapis.com/token"
"""What assertions are made for, whatever `token_uri` says: google-auth does the same."""

SCOPE = "https://www.googleapis.com/auth/cloud-platform.read-only"
"""The least that ``projects.locations.get`` accepts."""


class VertexSettings(Settings):
    """Where to look.

    Args:
        project: the project's id or number.
        location: a region such as ``europe-west4``, or ``global``.
    """

    project: Annotated[str, StringConstraints(pattern=r"^([a-z0-9.-]+:)?[a-z0-9][a-z0-9-]{2,28}[a-z0-9]$")]
    location: Annotated[str, StringConstraints(pattern=r"^[a-z]+(-[a-z]+[0-9]+)?$", max_length=40)]


class ServiceAccountKey(BaseModel):
    """What is needed of a key file. https://cloud.google.com/iam/docs/keys-create-delete"""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    type: Literal["service_account"]
    client_email: str = Field(min_length=3)
    private_key: SecretStr
    private_key_id: str | None = None
    token_uri: str = AUDIENCE


class AccessToken(Document):
    """The token endpoint's answer; `expires_in` is in seconds."""

    access_token: SecretStr
    expires_in: int


class Location(Document):
    """The answer of ``projects.locations.get``."""

    name: str


class Vertex(VendorConnector):
    """One tenant's access to Vertex AI in one project and location."""

    manifest = ConnectorMetadata(
        name="vertex",
        version="1.0.0",
        title="Vertex AI",
        default_base_url="https://aiplatform.googleapis.com",
        auth_methods=("service_account", "oauth2"),
        steps=("auth", "api", "permissions"),
        documentation=f"{_DOCS}/vertex-ai/docs/reference/rest",
        status_page=StatusPage(
            format="google",
            url="https://status.cloud.google.com/incidents.json",
            concerns=("Vertex", "Agent Platform"),  # products are being renamed to the latter
            hosts=("-aiplatform.googleapis.com",),
        ),
        settings=VertexSettings,
        limits=(Limit(requests=600, seconds=60, per="project and region", documentation=_QUOTAS),),
        required_scopes=(SCOPE,),
    )
    actions = ACTIONS
    rules = RULES
    speaks_json = True
    kept: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__(config)
        self.settings = read_settings(VertexSettings, config)

    @classmethod
    def address(cls, config: ConnectorConfig) -> str:
        """Every location has a host of its own. https://cloud.google.com/vertex-ai/docs/reference/rest#service-endpoint"""
        location = read_settings(VertexSettings, config).location
        return config.base_url or _regional(cls.manifest.default_base_url, location)

    @classmethod
    def validate(cls, config: ConnectorConfig) -> None:
        """Besides the settings, the key file, where it is at hand."""
        super().validate(config)
        if isinstance(config.auth, ServiceAccountAuth) and not isinstance(config.auth.key, SecretRef):
            _read_key(reveal(config.auth.key))

    async def check(self, session: CheckSession) -> None:
        """Exchange the key, unless a token is kept; then ask for the location."""

        async def check(token: str) -> None:
            await self._check(session, token)

        match self.config.auth:
            case ServiceAccountAuth(key=secret):
                text = reveal(secret)
                key = _read_key(text)
                await self.exchanged(session, text, lambda: self._exchange(session, key), check)
            case OAuth2Auth(access_token=secret):
                await check(reveal(secret))
                with session.step("auth"):
                    self.expiry(session)

    @classmethod
    async def check_service(cls, session: CheckSession, base_url: str) -> None:
        """Without a token, the API answers 401, or 403 to callers it does not know."""
        await cls.is_there(session, "GET", f"{base_url}/v1/projects/-/locations", (401, 403))

    @property
    def own_addresses(self) -> tuple[str, ...]:
        """Google's own endpoints; a key file may name another token endpoint."""
        return (*super().own_addresses, AUDIENCE)

    @classmethod
    def facts(cls, answer: Answer) -> Facts:
        """Both shapes of error: the APIs' ``{"error": {…}}`` and the token endpoint's ``{"error": "…"}``."""
        body = error_body(answer)
        error = body.get("error")
        if isinstance(error, dict):
            return facts_of(answer, (*_info_reasons(error), error.get("status")), error.get("message"), cls.kept)
        return facts_of(answer, (error,), body.get("error_description"), cls.kept)

    async def _check(self, session: CheckSession, token: str) -> None:
        path = f"v1/projects/{quote(self.settings.project)}/locations/{quote(self.settings.location)}"
        headers = {"Authorization": f"Bearer {token}"}
        reply = await self.ask(session, "GET", f"{self.base_url}/{path}", Location, headers=headers)
        with session.step("permissions"):
            session.note(location=reply.body.name)

    async def _exchange(self, session: CheckSession, key: ServiceAccountKey) -> Token:
        now = session.now_ms // 1000
        claims: dict[str, str | int] = {
            "iss": key.client_email,
            "scope": SCOPE,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 3600,
        }
        try:
            assertion = await sign(key.private_key.get_secret_value(), claims, key_id=key.private_key_id)
        except ValueError:
            raise CheckFailed(Reason.MISCONFIGURED, "auth.key: its private_key is not a usable RSA key") from None
        data = {"grant_type": GRANT, "assertion": assertion}
        made = await self.fetch(session, key.token_uri, AccessToken, headers={}, data=data)
        return Token(made.access_token, session.now_ms + made.expires_in * 1000)


def _info_reasons(error: Mapping[str, object]) -> list[object]:
    """``ErrorInfo.reason`` is more precise than the status. https://cloud.google.com/apis/design/errors#error_info"""
    details = error.get("details")
    return [detail.get("reason") for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _regional(base_url: str, location: str) -> str:
    return base_url if location == "global" else base_url.replace("https://", f"https://{location}-")


def _read_key(text: str) -> ServiceAccountKey:
    try:
        return ServiceAccountKey.model_validate_json(text)
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors()[0]["loc"])
        what = f"the field {field} is missing or wrong" if field else "it is not JSON"
        raise InvalidConfig(f"auth.key: not a service-account key file, {what}") from None
