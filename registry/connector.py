"""What a connector is: its protocol, its static manifest, and one tenant's configuration of it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, Self, TypeAlias, TypeVar, runtime_checkable
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

if TYPE_CHECKING:
    from registry.check import CheckSession
    from registry.health import Reason

LATEST = 253_402_300_799
"""The last second that can be told: the end of the year 9999."""

MOST_CHECKS = 1_000_000
"""Checks an hour that a budget may speak of: more than any pair ever has."""

LONGEST_TEXT = 64 * 1024
"""Characters of any one text in a configuration: as many as a whole document may have."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_REFERENCE = re.compile(r"(env|file|gcp|enc)://\S+")


class SecretRef(str):
    """Where a secret is kept (``env://…``, ``file://…``, ``gcp://…``, ``enc://…``); not the secret itself."""

    __slots__ = ()


_SECRETS = (SecretRef, SecretStr)


def _read_secret(value: object) -> SecretRef | SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(text, str) and not _SURROGATE.search(text):
        if isinstance(value, _SECRETS):
            return value
        if text:
            return SecretRef(text) if _REFERENCE.fullmatch(text) else SecretStr(text)
    raise ValueError("give a secret reference (env://…, file://…, gcp://…, enc://…) or the secret as text")


def _write_secret(value: SecretRef | SecretStr) -> str:
    if isinstance(value, SecretRef):
        return str(value)
    raise ValueError("a clear secret is never written: seal it first")


Secret = Annotated[
    SecretRef | SecretStr,
    PlainValidator(_read_secret),
    PlainSerializer(_write_secret),
    WithJsonSchema({"type": "string", "format": "secret-reference"}),
]
"""A secret in one of its two forms: a reference (the only form that is stored) or a `SecretStr` in memory."""


class _Strict(BaseModel):
    """Takes what UTF-8 JSON can hold, and nothing else: pydantic asks that of a text only where it has a bound."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, str_max_length=LONGEST_TEXT
    )


class BearerAuth(_Strict):
    """A token sent as is: personal access tokens, API keys, bot tokens."""

    type: Literal["bearer"] = "bearer"
    token: Secret


class OAuth2Auth(_Strict):
    """An OAuth 2 access token; `expires_at` is Unix seconds where the vendor told it."""

    type: Literal["oauth2"] = "oauth2"
    access_token: Secret
    expires_at: Annotated[int, Field(ge=0, le=LATEST)] | None = None


class ServiceAccountAuth(_Strict):
    """A Google service account: `key` is the whole JSON key file."""

    type: Literal["service_account"] = "service_account"
    key: Secret


class GitHubAppAuth(_Strict):
    """A GitHub App installation: `private_key` is the App's PEM."""

    type: Literal["github_app"] = "github_app"
    app_id: str
    installation_id: int
    private_key: Secret


Auth: TypeAlias = Annotated[BearerAuth | OAuth2Auth | ServiceAccountAuth | GitHubAppAuth, Field(discriminator="type")]


class ConnectorConfig(_Strict):
    """One tenant's configuration of one connector.

    Args:
        auth: how to prove who the tenant is; secrets are references once stored.
        base_url: another address than the vendor's own (self-managed GitLab, GitHub Enterprise Server).
        label: a name for people; no effect on checks.
        settings: what only this connector knows (Vertex AI: project and location).
        interval: seconds between checks, if not the tenant's, the connector's or the default.
        budget: checks an hour at most, those on demand included; the operator's own budgets hold besides.
    """

    auth: Auth
    base_url: str | None = None
    label: str | None = Field(default=None, max_length=200)
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    interval: Annotated[float, Field(ge=1, le=86_400)] | None = None
    budget: Annotated[int, Field(ge=1, le=MOST_CHECKS)] | None = None

    @field_validator("base_url")
    @classmethod
    def _absolute_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.isascii() or not value.isprintable() or any(letter in value for letter in " |<>"):
            raise ValueError("must be printable ASCII without blanks; write other letters percent-encoded or as xn--")
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an absolute http(s) URL such as https://gitlab.example.com")
        _ = parts.port  # raises for a port that is none
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must not carry credentials, a query or a fragment")
        return value.rstrip("/")

    def secrets(self) -> Iterator[tuple[str, SecretRef | SecretStr]]:
        """The secret fields of `auth`, as (field name, reference or secret)."""
        for name, value in vars(self.auth).items():
            if isinstance(value, _SECRETS):
                yield name, value

    def with_secrets(self, secrets: dict[str, SecretRef] | dict[str, SecretStr]) -> ConnectorConfig:
        """A copy whose secret fields are replaced by `secrets` (field name → value)."""
        return _changed(self, {"auth": _changed(self.auth, secrets)})


Model = TypeVar("Model", bound=_Strict)


def _changed(model: Model, changes: Mapping[str, object]) -> Model:
    """`model_copy(update=…)` for models that have no private and no extra values: a fourth of its time, every check."""
    copied = object.__new__(type(model))
    object.__setattr__(copied, "__dict__", {**vars(model), **changes})
    object.__setattr__(copied, "__pydantic_fields_set__", model.model_fields_set | changes.keys())
    object.__setattr__(copied, "__pydantic_extra__", None)
    object.__setattr__(copied, "__pydantic_private__", None)
    return copied


class Limit(_Strict):
    """What the vendor allows: `requests` in `seconds`, counted for each `per` (``user``, ``project and region``)."""

    requests: int = Field(gt=0)
    seconds: int = Field(gt=0)
    per: str
    documentation: str


class Deprecation(_Strict):
    """From `date` on the connector may stop working; `advice` tells what to use instead."""

    date: dt.date
    advice: str = Field(min_length=1)


class BreakingChange(_Strict):
    """`version` is the first that has `change`; `migration` tells what to do to a stored configuration."""

    version: str
    change: str = Field(min_length=1)
    migration: str = Field(min_length=1)


class StatusPage(_Strict):
    """A vendor's public status page: its machine-readable address, and whose format it has.

    A part of the vendor (component, service, product) concerns the connector if its name contains one of the words in
    `concerns`, whatever the case; without any, every part does. The page tells of the vendor's own address, and of
    those whose host ends with one of `hosts`. See `registry.status_pages`.
    """

    format: Literal["statuspage", "slack", "statusio", "google"]
    url: str
    concerns: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


class ConnectorMetadata(_Strict):
    """A connector's static manifest: known without an instance and without the network.

    `framework` is a PEP 440 range of framework versions. `settings` is the model of what a configuration's
    ``settings`` may hold; without one, only the connector's own `validate` looks at them. `record_types` are what its
    data side can sync. `latency_budget` is in milliseconds: a slower check is ``slow``. `expiring_days` and
    `quota_low` (a fraction of the limit) are when a verdict becomes ``degraded``.
    """

    name: str
    version: str
    title: str
    framework: str = ">=0.1,<1"
    default_base_url: str
    auth_methods: tuple[Literal["bearer", "oauth2", "service_account", "github_app"], ...]
    steps: tuple[str, ...]
    documentation: str
    status_page: StatusPage | None = None
    settings: type[BaseModel] | None = Field(default=None, exclude=True, repr=False)
    record_types: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    required_scopes: tuple[str, ...] = ()
    maturity: Literal["stable", "beta", "deprecated"] = "stable"
    deprecation: Deprecation | None = None
    breaking_changes: tuple[BreakingChange, ...] = ()
    latency_budget: int = 2_000
    expiring_days: int = 14
    quota_low: float = 0.05

    @model_validator(mode="after")
    def _deprecated_with_advice(self) -> Self:
        if (self.maturity == "deprecated") != (self.deprecation is not None):
            raise ValueError("maturity 'deprecated' and a deprecation (date and advice) belong together")
        return self


@runtime_checkable
class Connector(Protocol):
    """One tenant's connection to one vendor. Built from a resolved configuration, without any I/O.

    A connector says why it does not work by raising `registry.errors.CheckFailed`; timing, translation of
    transport errors and isolation are `registry.check`'s.
    """

    manifest: ClassVar[ConnectorMetadata]
    actions: ClassVar[Mapping[Reason, str]]
    """One sentence of advice for each reason that a check of this connector may conclude."""

    @classmethod
    def validate(cls, config: ConnectorConfig) -> None:
        """Accept a configuration before it is saved, without any I/O; its secrets may be references still.

        Raises:
            registry.errors.InvalidConfig: what is wrong, beginning with the field's name.
        """
        ...

    async def check(self, session: CheckSession) -> None:
        """Make the cheapest calls that tell whether this tenant's credential works; return if it does."""
        ...

    @classmethod
    async def check_service(cls, session: CheckSession, base_url: str) -> None:
        """Tell without any credential whether the endpoint is there (scope SYSTEM)."""
        ...

    async def aclose(self) -> None:
        """Give back what the instance holds. Called once, after its last use."""
        ...


ConnectorFactory = Callable[[ConnectorConfig], Connector | Awaitable[Connector]]
"""Builds a connector from a configuration whose secrets are resolved; may be a coroutine function or a class."""
