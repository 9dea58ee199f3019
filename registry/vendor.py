"""What connectors of HTTP vendors have in common: reading their configuration, asking, and judging the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import ClassVar, Generic, TypeVar

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from registry import forecast
from registry.check import CheckSession, nothing_held
from registry.classify import STEPS, Facts, Rule, classify, facts_of, is_foreign, is_page
from registry.connector import ConnectorConfig, ConnectorMetadata, OAuth2Auth, SecretRef
from registry.errors import CheckFailed, InvalidConfig
from registry.health import REASONS, Fault, Reason
from registry.http import Answer
from registry.tokens import Token
from registry.validation import accept, problems

Shape = TypeVar("Shape", bound="Document")
Own = TypeVar("Own", bound="Settings")


TAKEN_APART = 1 << 16
"""Bytes of a body that are taken apart. A documented answer has a tenth of that; JSON takes a hundred times its size
in memory, and time of the event loop."""


REFRESHED_MS = 600_000
"""An access token that nobody has refreshed ten minutes before its end is forgotten: Google's live for an hour."""

LONGEST_SECRET = 16_384
"""Characters: a service account's key file has a seventh of that, and no header may be longer."""


class Settings(BaseModel):
    """The base of a connector's own settings; by itself: none."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ScopedSettings(Settings):
    """`required_scopes`: what the tenant's use needs beyond what the check itself needs."""

    required_scopes: tuple[str, ...] = ()


class Document(BaseModel):
    """The base of documented answers: only the fields that are needed, of exactly the documented types.

    `largest` is in bytes: no such answer is longer.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)
    largest: ClassVar[int] = TAKEN_APART


class Reply(Struct, Generic[Shape], frozen=True, gc=False):
    """A success: the documented body, and the answer it came in."""

    body: Shape
    answer: Answer


class Absent(Exception):
    """The endpoint is not there, and the connector has another to ask."""


class VendorConnector:
    """The base of the built-in connectors. A subclass has a manifest, tables, settings, and `check`."""

    manifest: ClassVar[ConnectorMetadata]
    actions: ClassVar[Mapping[Reason, str]]
    rules: ClassVar[tuple[Rule, ...]]
    speaks_json: ClassVar[bool] = False
    """Does the vendor tell every refusal in JSON? Then a proxy's is not taken for its word on a credential."""
    kept: ClassVar[Mapping[str, str]] = {"request_id": "x-request-id"}
    """Headers of an answer that are kept as evidence of a failure: name → header."""

    def __init__(self, config: ConnectorConfig) -> None:
        self.config = config
        self.base_url = self.address(config)

    @classmethod
    def address(cls, config: ConnectorConfig) -> str:
        """The base URL that a configuration leads to; its service check asks there too."""
        return config.base_url or cls.manifest.default_base_url

    @classmethod
    def validate(cls, config: ConnectorConfig) -> None:
        """Accept the configuration, or raise `InvalidConfig` that names the field."""
        accept(cls.manifest, config)

    aclose = nothing_held

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
            answer = await self._request(session, method, url, headers=headers, json=json)
            missing = answer.status in absent and not is_page(answer)
            found = None if missing else self.read(session, answer, shape)
            if isinstance(found, CheckFailed):
                step = self._step(found)
                if step == "api":
                    raise found
            elif found is not None:
                return Reply(found, answer)
        if found is None:
            raise Absent
        with session.step(step):
            if step != "auth":  # without a credential, the quota is nobody's
                self.limits(session, answer)
            raise found

    async def fetch(
        self,
        session: CheckSession,
        url: str,
        shape: type[Shape],
        *,
        headers: Mapping[str, str],
        data: Mapping[str, str] | None = None,
    ) -> Shape:
        """One POST inside a step that is open already, such as the exchange of a token. Raises `CheckFailed`."""
        answer = await self._request(session, "POST", url, headers=headers, data=data)
        found = self.read(session, answer, shape)
        if isinstance(found, CheckFailed):
            raise found
        return found

    def read(self, session: CheckSession, answer: Answer, shape: type[Shape]) -> Shape | CheckFailed:
        """`judge`, with what only this tenant's configuration knows.

        An access token whose configured end has passed is expired, even where the vendor just refuses it.
        """
        found = self.judge(answer, shape)
        if not isinstance(found, CheckFailed):
            return found
        ends_ms = self.expires_ms
        if found.reason is Reason.CREDENTIAL_REJECTED and ends_ms is not None and ends_ms <= session.now_ms:
            found.reason = Reason.CREDENTIAL_EXPIRED
        return found

    @classmethod
    def judge(cls, answer: Answer, shape: type[Shape]) -> Shape | CheckFailed:
        """The body of a success, which has the documented shape; or what the tables say of any other answer."""
        wrong = ""
        if 200 <= answer.status < 300:
            found = _shaped(answer.body, shape)
            if not isinstance(found, str):
                return found
            wrong = found
        facts = cls._facts(answer)
        return classify(cls.rules, facts) or CheckFailed(
            Reason.BAD_RESPONSE, f"the answer cannot be used: {wrong}", evidence=facts.evidence
        )

    async def _request(
        self,
        session: CheckSession,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        json: object = None,
        data: Mapping[str, str] | None = None,
    ) -> Answer:
        """A vendor's own address that leads into a private network is our name service's doing, not the tenant's."""
        try:
            return await session.request(method, url, headers=headers, json=json, data=data)
        except CheckFailed as failure:
            if "refused" in failure.evidence:
                if url.startswith(self.own_addresses):
                    failure.fault = Fault.PLATFORM
                failure.evidence["refused"] = "base_url" if url.startswith(self.base_url) else "egress"
            raise

    @property
    def own_addresses(self) -> tuple[str, ...]:
        """The addresses that are this connector's and not the tenant's choice."""
        return () if self.config.base_url else (self.base_url,)

    @property
    def expires_ms(self) -> int | None:
        """When the credential ends by its own configuration, Unix milliseconds, if that tells."""
        ends = self.config.auth.expires_at if isinstance(self.config.auth, OAuth2Auth) else None
        return None if ends is None else ends * 1000

    def expiry(self, session: CheckSession, ends_ms: int | None = None) -> None:
        """Keep when the credential ends, and warn in time: the vendor tells, Unix milliseconds, or the configuration.

        What that tells of are access tokens of OAuth: they live for hours, and are refreshed shortly before their end.
        """
        if ends_ms is None:
            forecast.expiry(session, self.expires_ms, refreshed_ms=REFRESHED_MS)
        else:
            forecast.expiry(session, ends_ms)

    def limits(self, session: CheckSession, answer: Answer) -> None:
        """Keep the quota that an answer's headers tell; subclasses know their vendor's."""

    @classmethod
    def _trouble(cls, answer: Answer) -> CheckFailed | None:
        """A failure or a limit that the vendor tells with a status that is expected, as GraphQL does."""
        found = classify(cls.rules, cls._facts(answer))
        return found if found and found.reason in (Reason.VENDOR_ERROR, Reason.RATE_LIMITED) else None

    @classmethod
    def facts(cls, answer: Answer) -> Facts:
        """What this vendor's answer says; subclasses read their vendor's error bodies."""
        return facts_of(answer, kept=cls.kept)

    @classmethod
    def _facts(cls, answer: Answer) -> Facts:
        facts = cls.facts(answer)
        foreign = cls.speaks_json and not facts.page and is_foreign(answer)
        return replace(facts, page="no JSON") if foreign else facts

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
        first, warned = len(session.steps), len(session.warnings)
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
            if kept:  # only now, for it says nothing of the credential until the vendor takes it
                session.steps.insert(first, "auth")
            return
        del session.steps[first:], session.warnings[warned:]
        token, _ = await self._token(session, credential, exchange)
        await check(token)

    def _step(self, failure: CheckFailed) -> str:
        step = STEPS.get(failure.reason, "api")
        return step if step in self.manifest.steps else "api"

    async def _token(
        self, session: CheckSession, credential: str, exchange: Callable[[], Awaitable[Token]]
    ) -> tuple[str, bool]:
        async def made() -> Token:
            with session.step("auth"):
                return await exchange()

        token, kept = await session.tokens.get(session.pair, credential, made, now_ms=session.now_ms)
        return token.value.get_secret_value(), kept

    @classmethod
    async def is_there(
        cls,
        session: CheckSession,
        method: str,
        url: str,
        expected: Collection[int],
        *,
        json: object = None,
        shape: type[Shape] | None = None,
    ) -> None:
        """The service check: without a credential, the API answers with an `expected` status (and in this shape)."""
        with session.step("api"):
            answer = await session.request(method, url, json=json)
            if answer.status in expected and not is_page(answer):
                found = cls.judge(answer, shape) if shape else _require_object(answer) or cls._trouble(answer)
            else:
                facts = cls._facts(answer)
                found = classify((), facts) or CheckFailed(Reason.BAD_RESPONSE, f"HTTP {answer.status} is not expected")
            if not isinstance(found, CheckFailed):
                return
            if found.reason is Reason.RATE_LIMITED:  # without a credential, the limit is that of our address
                found.fault = Fault.PLATFORM
            elif REASONS[found.reason].fault is Fault.TENANT:  # no tenant's credential was sent
                found.reason = Reason.BAD_RESPONSE
            raise found


def read_settings(kind: type[Own], config: ConnectorConfig) -> Own:
    """A connector's own settings, or `InvalidConfig` that names the field."""
    try:
        return kind.model_validate(config.settings)
    except ValidationError as error:
        raise InvalidConfig(problems(error, kind, "settings")) from None


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
    if len(text) > LONGEST_SECRET:
        raise InvalidConfig(f"auth: the secret is longer than {LONGEST_SECRET} characters")
    return text


def _shaped(body: bytes, shape: type[Shape]) -> Shape | str:
    """The body as a documented one, or what is wrong with it."""
    if len(body) > shape.largest:
        return f"it is larger than {shape.largest} bytes"
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        return f"{where} is not as documented" if where else "it is not the documented JSON"


def error_body(answer: Answer) -> dict[str, object]:
    """The body of an error as a JSON object; empty when it is something else."""
    try:
        body = answer.json() if len(answer.body) <= TAKEN_APART else None
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _require_object(answer: Answer) -> CheckFailed | None:
    """A success of whatever shape is a JSON object at least; a refusal need not be."""
    if answer.status >= 300 or error_body(answer):
        return None
    return CheckFailed(Reason.BAD_RESPONSE, f"HTTP {answer.status} without the documented JSON")


def require_scopes(session: CheckSession, needed: Collection[str], granted: Collection[str]) -> None:
    """Fail with ``permission_denied`` unless every needed scope is granted."""
    missing = [scope for scope in needed if scope not in granted]
    if missing:
        session.note(missing_scopes=" ".join(missing))
        raise CheckFailed(Reason.PERMISSION_DENIED, f"the credential lacks the scope {', '.join(missing)}")
