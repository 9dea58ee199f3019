"""What connectors of HTTP vendors have in common: reading their configuration, asking, and judging the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from registry.check import CheckSession
from registry.classify import STEPS, Facts, Rule, classify, facts_of, is_page
from registry.clean import MASK
from registry.connector import ConnectorConfig, ConnectorMetadata, SecretRef
from registry.errors import CheckFailed, InvalidConfig
from registry.health import Fault, Reason
from registry.http import Answer
from registry.tokens import Token

Shape = TypeVar("Shape", bound=BaseModel)


class Settings(BaseModel):
    """The base of a connector's own settings; by itself: none."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ScopedSettings(Settings):
    """`required_scopes`: what the tenant's use needs beyond what the check itself needs."""

    required_scopes: tuple[str, ...] = ()


class Document(BaseModel):
    """The base of documented answers: only the fields that are needed, of exactly the documented types."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)


OwnSettings = TypeVar("OwnSettings", bound=Settings)


@dataclass(frozen=True, slots=True)
class Reply(Generic[Shape]):
    """A success: the documented body, and the answer it came in."""

    body: Shape
    answer: Answer


class Absent(Exception):
    """The endpoint is not there, and the connector has another to ask."""


class VendorConnector(Generic[OwnSettings]):
    """The base of the built-in connectors. A subclass has a manifest, tables, settings, and `check`."""

    manifest: ClassVar[ConnectorMetadata]
    actions: ClassVar[Mapping[Reason, str]]
    rules: ClassVar[tuple[Rule, ...]]
    settings_type: ClassVar[type[Settings]]
    request_id: ClassVar[str] = "x-request-id"

    def __init__(self, config: ConnectorConfig) -> None:
        self.config = config
        self.settings: OwnSettings = self._settings(config)
        self.base_url = config.base_url or self.manifest.default_base_url

    @classmethod
    def validate(cls, config: ConnectorConfig) -> None:
        """Accept the configuration, or raise `InvalidConfig` that names the field."""
        if config.auth.type not in cls.manifest.auth_methods:
            accepted = " or ".join(cls.manifest.auth_methods)
            raise InvalidConfig(f"auth.type: {cls.manifest.title} takes {accepted}, not {config.auth.type}")
        cls._settings(config)

    async def aclose(self) -> None:
        """Nothing is held."""

    async def ask(
        self,
        session: CheckSession,
        method: str,
        url: str,
        shape: type[Shape],
        *,
        headers: Mapping[str, str],
        json: object = None,
        absent: Collection[int] = (),
    ) -> Reply[Shape]:
        """One call in the step ``api``; a failure of another step is shown in that step.

        Raises:
            CheckFailed: the tables' verdict on the answer, or ``bad_response`` when it has not the documented shape.
            Absent: the status is one of `absent`.
        """
        with session.step("api"):
            answer = await session.request(method, url, headers=headers, json=json)
            missing = answer.status in absent and not is_page(answer)
            failure = None if missing else self.judge(answer, headers)
            step = _step(failure, self.manifest)
            if failure and step == "api":
                raise failure
            if not failure and not missing:
                return Reply(self.read(answer, shape), answer)
        if failure:
            with session.step(step):
                raise failure
        raise Absent

    def judge(self, answer: Answer, headers: Mapping[str, str]) -> CheckFailed | None:
        """The tables' verdict on an answer. A credential that the vendor echoes is masked."""
        failure = classify(self.rules, self.facts(answer))
        return failure and masked(failure, *headers.values())

    @classmethod
    def facts(cls, answer: Answer) -> Facts:
        """What this vendor's answer says; subclasses read their vendor's error bodies."""
        return facts_of(answer, request_id=cls.request_id)

    @classmethod
    def read(cls, answer: Answer, shape: type[Shape]) -> Shape:
        """The body in its documented shape, or `CheckFailed` with ``bad_response`` that names the field."""
        try:
            return shape.model_validate_json(answer.body)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            what = f"{where} is not as documented" if where else "it is not the documented JSON"
            raise CheckFailed(
                Reason.BAD_RESPONSE, f"the answer cannot be used: {what}", evidence=cls.facts(answer).evidence
            ) from None

    async def exchanged(
        self,
        session: CheckSession,
        credential: str,
        exchange: Callable[[], Awaitable[Token]],
        check: Callable[[str], Awaitable[None]],
    ) -> None:
        """Run `check` with a token exchanged from `credential`.

        A token kept from an earlier check that is refused by now is exchanged once more before anyone is blamed.
        """
        first = len(session.steps)
        token, kept = await self._token(session, credential, exchange)
        try:
            await check(token)
        except CheckFailed as failure:
            if failure.reason not in (Reason.CREDENTIAL_REJECTED, Reason.CREDENTIAL_EXPIRED):
                raise
            session.tokens.drop(session.pair)
            if not kept:
                raise
        else:
            return
        del session.steps[first:]
        token, _ = await self._token(session, credential, exchange)
        await check(token)

    async def _token(
        self, session: CheckSession, credential: str, exchange: Callable[[], Awaitable[Token]]
    ) -> tuple[str, bool]:
        with session.step("auth"):
            token, kept = await session.tokens.get(session.pair, credential, exchange, now_ms=session.now_ms)
        return token.value.get_secret_value(), kept

    @classmethod
    async def is_there(
        cls, session: CheckSession, method: str, url: str, expected: Collection[int], *, json: object = None
    ) -> None:
        """The service check: without a credential, the API answers with one of the `expected` statuses."""
        with session.step("api"):
            answer = await session.request(method, url, json=json)
            if answer.status in expected and not is_page(answer):
                return
            facts = cls.facts(answer)
            failure = classify((), facts) or CheckFailed(Reason.BAD_RESPONSE, f"HTTP {answer.status} was not expected")
            if failure.reason is Reason.RATE_LIMITED:  # without a credential, the limit is that of our address
                failure.fault = Fault.PLATFORM
            raise failure

    @classmethod
    def _settings(cls, config: ConnectorConfig) -> Any:
        try:
            return cls.settings_type.model_validate(config.settings)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in ("settings", *first["loc"]))
            raise InvalidConfig(f"{field}: {first['msg']}") from None


def _step(failure: CheckFailed | None, manifest: ConnectorMetadata) -> str:
    step = STEPS.get(failure.reason, "api") if failure else "api"
    return step if step in manifest.steps else "api"


def reveal(secret: SecretRef | SecretStr) -> str:
    """A resolved secret's text, without the line break that files end with.

    Raises:
        InvalidConfig: it is a reference still, or empty.
    """
    if isinstance(secret, SecretRef):
        raise InvalidConfig("auth: the secret reference was not resolved")
    text = secret.get_secret_value().strip()
    if not text:
        raise InvalidConfig("auth: the secret is empty")
    return text


def masked(failure: CheckFailed, *credentials: str) -> CheckFailed:
    """`failure` without the credentials of the request, whatever they look like."""
    for credential in {part for text in credentials for part in text.split() if len(part) >= 8}:
        failure.message = failure.message.replace(credential, MASK)
        failure.evidence = {
            name: value.replace(credential, MASK) if isinstance(value, str) else value
            for name, value in failure.evidence.items()
        }
    return failure


def error_body(answer: Answer) -> dict[str, object]:
    """The body of an error as a JSON object; empty when it is something else."""
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def require_scopes(session: CheckSession, needed: Collection[str], granted: Collection[str]) -> None:
    """Fail with ``permission_denied`` unless every needed scope is granted."""
    missing = [scope for scope in needed if scope not in granted]
    if missing:
        session.note(missing_scopes=" ".join(missing))
        raise CheckFailed(Reason.PERMISSION_DENIED, f"the credential lacks the scope {', '.join(missing)}")
