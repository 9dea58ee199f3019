"""One check, as a story: build the connector, run its steps under a deadline, translate what happened.

Here, and nowhere else, a check is timed and exceptions become reasons. `run_check` never raises (except for
cancellation from outside): a connector's bug is that pair's ``monitor_error``.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import structlog
from pydantic import SecretStr

from registry.clean import clean
from registry.connector import Connector, ConnectorConfig, ConnectorFactory, ConnectorMetadata
from registry.deadlines import Deadlines
from registry.errors import CheckFailed, InvalidConfig, SecretNotFound, SecretUnavailable
from registry.health import REASONS, Fault, HealthCheck, Quota, Reason, Scalar, StepStatus, Verdict
from registry.ids import Pair

if TYPE_CHECKING:
    from registry.http import Answer, VendorHttp
    from registry.tokens import TokenCache

log = structlog.get_logger(__name__)

TELL_EVERY = 60.0
"""Seconds between two log lines about the same kind of error in the same connector."""

SOON = 0.01
"""Seconds of preparation that are not worth setting the deadline anew for."""

LAG = 0.5
"""Seconds by which a deadline may be missed: beyond, an answer may have waited for us all the while."""

CLOSE_TIMEOUT = 5.0
"""Seconds a connector's own `aclose` may take."""

_told_at: dict[tuple[str, str], float] = {}

Run = Callable[["CheckSession"], Awaitable[None]]
Prepare = Callable[["CheckSession"], Awaitable[Run]]

_CREDENTIALS = ("Authorization", "PRIVATE-TOKEN", "assertion")
"""The headers and form fields that carry a credential."""


class CheckSession:
    """What a connector works with during one check: the HTTP client, the steps, and what it found out.

    `tokens` keeps short-lived tokens that were exchanged for a credential, for this tenant's later checks.
    `now_ms` is the shared clock's Unix milliseconds. Set `quota` and `credential_expires_ms` when the vendor
    tells them; `note` keeps small evidence. `credentials` is what the vendor was sent and may echo: nothing that is
    kept shows any of it. `connector` was made for this check, and is closed after it.
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
        self.steps: list[HealthCheck | str] = []
        self.warnings: list[CheckFailed] = []
        self.connector: Connector | None = None

    def step(self, name: str) -> AbstractContextManager[None]:
        """Run one named step: it passes unless its body raises, or warned through `warn`."""
        return _Step(self, name)

    def clean(self, text: str) -> str:
        """Vendor text made fit to keep, see `registry.clean`."""
        return clean(text, credentials=self.credentials)

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
        for sent in filter(None, (headers, data)):
            for name in _CREDENTIALS:
                if words := sent.get(name, "").split():
                    self.credentials.add(words[-1])
        return await self.http.request(method, url, headers=headers, json=json, data=data)

    def note(self, **evidence: Scalar | None) -> None:
        """Keep small facts beside the verdict; None is left out."""
        self.evidence.update({name: value for name, value in evidence.items() if value is not None})

    def warn(self, reason: Reason, message: str, *, fault: Fault | None = None) -> None:
        """It works, but someone should act: the verdict becomes `reason` (a degraded one) unless a step fails."""
        self.warnings.append(CheckFailed(reason, message, fault=fault))


class _Step:
    """One step while it runs. A class, not a generator: every check has four of them."""

    __slots__ = ("_name", "_session", "_started", "_warned")

    def __init__(self, session: CheckSession, name: str) -> None:
        self._session, self._name = session, name

    def __enter__(self) -> None:
        self._started, self._warned = time.perf_counter(), len(self._session.warnings)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, status, said = self._session, StepStatus.PASS, None
        if error is not None:
            status, said = StepStatus.FAIL, _sentence(session, error)
        elif len(session.warnings) > self._warned:
            status, said = StepStatus.WARN, session.clean(session.warnings[self._warned].message)
        duration_ms = _since(self._started)
        plain = status is StepStatus.PASS and not duration_ms
        session.steps.append(self._name if plain else HealthCheck(self._name, status, duration_ms, said))


def _sentence(session: CheckSession, error: BaseException) -> str:
    if isinstance(error, CheckFailed):
        return session.clean(error.message)
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        return "not finished within the deadline"
    return type(error).__name__


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
    deadlines: Deadlines | None = None,
) -> Verdict:
    """Run one check to its verdict, whatever happens.

    Args:
        prepare: what is to be done before the vendor is asked, see `tenant_check` and `service_check`.
        now_ms: the shared clock, Unix milliseconds.
        timeout: seconds for the calls to the vendor; as many again for what comes before them, which is ours.
        actions: the connector's own advice by reason; where it has none, readers see the reason table's.
        deadlines: those of this event loop; None: it has no others.
    """
    session = CheckSession(pair, http, tokens, now_ms=now_ms(), manifest=manifest)
    started = time.perf_counter()
    outcome: CheckFailed | None = None
    run: Run | None = None
    try:
        with (deadlines or Deadlines()).within(timeout) as deadline:
            run = await prepare(session)
            prepared = time.perf_counter()
            if prepared - started > SOON:
                deadline.restart()
            started = prepared
            await run(session)
    except TimeoutError:
        if deadline.overslept > LAG:
            outcome = CheckFailed(Reason.MONITOR_ERROR, f"our own process stood still for {deadline.overslept:.1f} s")
        elif run is None:
            outcome = CheckFailed(Reason.SECRET_UNAVAILABLE, f"the secret store did not answer within {timeout:g} s")
        else:
            outcome = CheckFailed(Reason.TIMEOUT, f"no complete answer within {timeout:g} s")
    except asyncio.CancelledError as error:
        if deadline.called_off:
            raise
        outcome = _broke(session, error)  # the connector gave up a task of its own
    except Exception as error:  # noqa: BLE001 - isolation: one pair's bug is that pair's verdict
        outcome = _failure(session, error)
    finally:
        latency_ms, checked_ms = _since(started), now_ms()
        if session.connector is not None and type(session.connector).aclose is not nothing_held:
            await _closed(pair, session.connector)
    try:
        return _verdict(session, outcome, actions or {}, latency_ms=latency_ms, checked_ms=checked_ms)
    except Exception as error:  # noqa: BLE001 - isolation: what the connector says is no verdict
        outcome = _broke(session, error)
        return Verdict(outcome.reason, REASONS[outcome.reason].fault, checked_ms, outcome.message)


def tenant_check(factory: ConnectorFactory, resolve: Callable[[], Awaitable[ConnectorConfig]]) -> Prepare:
    """The check of a pair: resolve its secrets, build its connector; then let it look.

    Of the credentials in its configuration, nothing that the check keeps shows any.
    """

    async def prepare(session: CheckSession) -> Run:
        config = await resolve()
        session.credentials.update(_tokens(config))
        session.connector = connector = await build(factory, config)
        return connector.check

    return prepare


def service_check(connector: type[Connector], base_url: str) -> Prepare:
    """The credential-free check of an endpoint (scope SYSTEM)."""

    async def prepare(_: CheckSession) -> Run:
        return run

    async def run(session: CheckSession) -> None:
        await connector.check_service(session, base_url)

    return prepare


async def nothing_held(_: object) -> None:
    """The `aclose` of connectors that hold nothing: no check waits for it."""


async def _closed(pair: Pair, connector: Connector) -> None:
    """Close a connector; that its code fails or hangs is no verdict on the vendor."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await connector.aclose()
    except Exception as error:  # noqa: BLE001 - isolation: the verdict stands already
        log.warning("connector_not_closed", pair=str(pair), error=type(error).__name__)


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
        steps=tuple(session.steps),
        latency_ms=latency_ms,
        metadata={
            name: session.clean(value) if isinstance(value, str) else value
            for name, value in (session.evidence | outcome.evidence if outcome else session.evidence).items()
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


def _failure(session: CheckSession, error: Exception) -> CheckFailed:
    """What an exception says of the pair."""
    match error:
        case CheckFailed():
            return error
        case SecretNotFound():
            return CheckFailed(Reason.MISCONFIGURED, str(error), evidence={"error": SecretNotFound.__name__})
        case InvalidConfig():
            return CheckFailed(Reason.MISCONFIGURED, str(error))
        case SecretUnavailable():
            return CheckFailed(Reason.SECRET_UNAVAILABLE, str(error))
    return _broke(session, error)


def _broke(session: CheckSession, error: BaseException) -> CheckFailed:
    """A bug of the connector's, or ours."""
    _tell(session, error)
    return CheckFailed(Reason.MONITOR_ERROR, f"the check itself failed with {type(error).__name__}")


def _tell(session: CheckSession, error: BaseException) -> None:
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


def _since(started: float) -> float:
    """Milliseconds since `started`; a tenth counts below ten only."""
    passed = (time.perf_counter() - started) * 1000
    return round(passed * 10) / 10 if passed < 10 else round(passed)  # round(passed, 1) goes by way of text
