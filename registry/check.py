"""One check, as a story: build the connector, run its steps under a deadline, translate what happened.

Here, and nowhere else, a check is timed and exceptions become reasons. `run_check` never raises (except for
cancellation from outside): a connector's bug is that pair's ``monitor_error``.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydantic import SecretStr

from registry.clean import clean
from registry.connector import Connector, ConnectorConfig, ConnectorFactory, ConnectorMetadata
from registry.errors import CheckFailed, InvalidConfig, SecretNotFound, SecretUnavailable
from registry.health import REASONS, Fault, HealthCheck, Quota, Reason, Scalar, StepStatus, Verdict
from registry.ids import Pair

if TYPE_CHECKING:
    from registry.http import Answer, VendorHttp
    from registry.tokens import TokenCache

log = structlog.get_logger(__name__)

TELL_EVERY = 60.0
"""Seconds between two log lines about the same kind of error in the same connector."""

_told_at: dict[tuple[str, str], float] = {}

Run = Callable[["CheckSession"], Awaitable[None]]
Prepare = Callable[[], Awaitable[Run]]

_CREDENTIALS = ("Authorization", "PRIVATE-TOKEN", "assertion")
"""The headers and form fields that carry a credential."""


class CheckSession:
    """What a connector works with during one check: the HTTP client, the steps, and what it found out.

    `tokens` keeps short-lived tokens that were exchanged for a credential, for this tenant's later checks.
    `now_ms` is the shared clock's Unix milliseconds. Set `quota` and `credential_expires_ms` when the vendor
    tells them; `note` keeps small evidence. `credentials` is what the vendor was sent and may echo: nothing that is
    kept shows any of it.
    """

    def __init__(
        self, pair: Pair, http: VendorHttp, tokens: TokenCache, *, now_ms: int, manifest: ConnectorMetadata
    ) -> None:
        self.pair = pair
        self.http = http
        self.tokens = tokens
        self.now_ms = now_ms
        self.manifest = manifest
        self.quota: Quota | None = None
        self.credential_expires_ms: int | None = None
        self.credentials: set[str] = set()
        self.evidence: dict[str, Scalar] = {}
        self.steps: list[HealthCheck] = []
        self.warnings: list[CheckFailed] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run one named step: it passes unless its body raises, or warned through `warn`."""
        started, warned = time.perf_counter(), len(self.warnings)
        try:
            yield
        except BaseException as error:
            self._end(name, StepStatus.FAIL, started, self._sentence(error))
            raise
        news = self.warnings[warned:]
        if news:
            self._end(name, StepStatus.WARN, started, self._sentence(news[0]))
        else:
            self._end(name, StepStatus.PASS, started, None)

    def _end(self, name: str, status: StepStatus, started: float, error: str | None) -> None:
        self.steps.append(HealthCheck(name, status, _since(started), error))

    def clean(self, text: str) -> str:
        """Vendor text made fit to keep, see `registry.clean`."""
        return clean(text, credentials=self.credentials)

    def _sentence(self, error: BaseException) -> str:
        if isinstance(error, CheckFailed):
            return self.clean(error.message)
        if isinstance(error, TimeoutError | asyncio.CancelledError):
            return "not finished within the deadline"
        return type(error).__name__

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: Mapping[str, str] | None = None,
    ) -> Answer:
        """One vendor call. Transport failures raise `CheckFailed`; any HTTP answer is returned."""
        for sent in (headers or {}, data or {}):
            self.credentials.update(sent[name].split()[-1] for name in _CREDENTIALS if sent.get(name, "").strip())
        return await self.http.request(method, url, headers=headers, json=json, data=data)

    def note(self, **evidence: Scalar | None) -> None:
        """Keep small facts beside the verdict; None is left out."""
        self.evidence.update({name: value for name, value in evidence.items() if value is not None})

    def warn(self, reason: Reason, message: str, *, fault: Fault | None = None) -> None:
        """It works, but someone should act: the verdict becomes `reason` (a degraded one) unless a step fails."""
        self.warnings.append(CheckFailed(reason, message, fault=fault))


async def run_check(
    pair: Pair,
    prepare: Prepare,
    *,
    http: VendorHttp,
    tokens: TokenCache,
    manifest: ConnectorMetadata,
    now_ms: Callable[[], int],
    timeout: float,
    actions: Mapping[Reason, str] | None = None,
) -> Verdict:
    """Run one check to its verdict, whatever happens.

    Args:
        prepare: what is to be done before the vendor is asked, see `tenant_check` and `service_check`.
        now_ms: the shared clock, Unix milliseconds.
        timeout: seconds for the calls to the vendor; as many again for what comes before them, which is ours.
        actions: the connector's own advice by reason; where it has none, readers see the reason table's.
    """
    session = CheckSession(pair, http, tokens, now_ms=now_ms(), manifest=manifest)
    started = time.perf_counter()
    outcome: CheckFailed | None = None
    try:
        run = await _prepared(prepare, timeout)
        started = time.perf_counter()
        async with asyncio.timeout(timeout):
            await run(session)
    except CheckFailed as failure:
        outcome = failure
    except TimeoutError:
        outcome = CheckFailed(Reason.TIMEOUT, f"no complete answer within {timeout:g} s")
    except SecretNotFound as error:
        evidence = {"error": SecretNotFound.__name__}
        outcome = CheckFailed(Reason.MISCONFIGURED, str(error), evidence=evidence)
    except InvalidConfig as error:
        outcome = CheckFailed(Reason.MISCONFIGURED, str(error))
    except SecretUnavailable as error:
        outcome = CheckFailed(Reason.SECRET_UNAVAILABLE, str(error))
    except Exception as error:  # noqa: BLE001 - isolation: one pair's bug is that pair's verdict
        _tell(session, error)
        outcome = CheckFailed(Reason.MONITOR_ERROR, f"the check itself failed with {type(error).__name__}")
    return _verdict(session, outcome, actions or {}, latency_ms=_since(started), checked_ms=now_ms())


def tenant_check(factory: ConnectorFactory, resolve: Callable[[], Awaitable[ConnectorConfig]]) -> Prepare:
    """The check of a pair: resolve its secrets, build its connector; then let it look, and close it."""

    async def prepare() -> Run:
        config = await resolve()
        connector = Discreet(await build(factory, config), config)

        async def run(session: CheckSession) -> None:
            try:
                await connector.check(session)
            finally:
                await connector.aclose()

        return run

    return prepare


class Discreet:
    """A connector as checks use it: of the credentials in its `config`, nothing that a check keeps shows any."""

    def __init__(self, connector: Connector, config: ConnectorConfig) -> None:
        self._connector, self._tokens = connector, _tokens(config)

    async def check(self, session: CheckSession) -> None:
        """The connector's own check."""
        session.credentials.update(self._tokens)
        await self._connector.check(session)

    async def aclose(self) -> None:
        """Close the connector."""
        await self._connector.aclose()


def service_check(connector: type[Connector], base_url: str) -> Prepare:
    """The credential-free check of an endpoint (scope SYSTEM)."""

    async def prepare() -> Run:
        return run

    async def run(session: CheckSession) -> None:
        await connector.check_service(session, base_url)

    return prepare


async def _prepared(prepare: Prepare, timeout: float) -> Run:
    try:
        async with asyncio.timeout(timeout):
            return await prepare()
    except TimeoutError:
        raise SecretUnavailable(f"the secret store did not answer within {timeout:g} s") from None


def _tokens(config: ConnectorConfig) -> set[str]:
    """The secrets that are sent as they are. Keys have blanks in them: they only sign, and no vendor ever sees them."""
    texts = [value.get_secret_value().strip() for _, value in config.secrets() if isinstance(value, SecretStr)]
    return {text for text in texts if len(text.split()) == 1}


async def build(factory: ConnectorFactory, config: ConnectorConfig) -> Connector:
    """Call a factory, sync or async."""
    made = factory(config)
    return await made if inspect.isawaitable(made) else made


def _verdict(
    session: CheckSession,
    outcome: CheckFailed | None,
    actions: Mapping[Reason, str],
    *,
    latency_ms: float,
    checked_ms: int,
) -> Verdict:
    if outcome is None and not session.warnings and latency_ms > session.manifest.latency_budget:
        session.warn(Reason.SLOW, f"took {latency_ms:.0f} ms, budget {session.manifest.latency_budget} ms")
    outcome = outcome or next(iter(session.warnings), None)
    reason = outcome.reason if outcome else Reason.OK
    fault = (outcome.fault if outcome else None) or REASONS[reason].fault
    return Verdict(
        reason=reason,
        fault=fault,
        checked_ms=checked_ms,
        error=session.clean(outcome.message) if outcome else None,
        checks=tuple(session.steps),
        latency_ms=latency_ms,
        metadata={
            name: session.clean(value) if isinstance(value, str) else value for name, value in _facts(session, outcome)
        },
        credential_expires_ms=session.credential_expires_ms,
        quota=session.quota,
        retry_after=outcome.retry_after if outcome else None,
        action=advised(reason, fault, actions),
    )


def advised(reason: Reason, fault: Fault, actions: Mapping[Reason, str]) -> str | None:
    """The advice of a connector's table `actions`; None leaves it to the reason table."""
    return actions.get(reason) if fault is REASONS[reason].fault else OTHERWISE[fault]


OTHERWISE: Mapping[Fault, str | None] = {
    Fault.NONE: None,
    Fault.TENANT: "Ask the tenant to look at its own side: the evidence points there.",
    Fault.VENDOR: "Nothing for the tenant to do: the evidence points to the vendor, follow its status page.",
    Fault.PLATFORM: "Operators: the tenant is not to blame, run `connectors doctor` and read the worker's log.",
}
"""The advice where evidence named another fault than the reason's own, so that nobody is sent to the wrong door."""


def _tell(session: CheckSession, error: Exception) -> None:
    """Log where a check broke; once a minute for each connector and kind of error, for a bug breaks every check."""
    kind, now = (session.pair.connector, type(error).__name__), time.monotonic()
    if now - _told_at.get(kind, float("-inf")) < TELL_EVERY:
        return
    _told_at[kind] = now
    frames = traceback.extract_tb(error.__traceback__)[:-4:-1]
    where = ", called from ".join(f"{Path(frame.filename).name}:{frame.lineno} ({frame.name})" for frame in frames)
    connector, tenant = session.pair
    said = clean(f"{kind[1]}: {error}", credentials=session.credentials)
    log.error("check_broke", connector=connector, tenant=tenant, error=said, where=where)


def _facts(session: CheckSession, outcome: CheckFailed | None) -> Iterator[tuple[str, Scalar]]:
    yield from session.evidence.items()
    if outcome:
        yield from outcome.evidence.items()


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)
