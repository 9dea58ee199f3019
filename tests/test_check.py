import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar

import pytest

from registry.check import CheckSession, Prepare, run_check, tenant_check
from registry.connector import ConnectorConfig
from registry.egress import EgressPolicy
from registry.errors import CheckFailed, InvalidConfig, SecretNotFound, SecretUnavailable
from registry.health import Fault, Reason, StepStatus, Verdict
from registry.http import VendorHttp
from registry.ids import Pair
from registry.tokens import TokenCache
from tests.plugin import Plugin, plugin_config


class Buggy(Plugin):
    """A plugin whose own code does `Buggy.bug`."""

    bug: ClassVar[Callable[[], Awaitable[None]]]

    async def check(self, session: CheckSession) -> None:
        await type(self).bug()


CONFIG = ConnectorConfig.model_validate(plugin_config())


@pytest.fixture
async def http() -> AsyncIterator[VendorHttp]:
    made = VendorHttp(EgressPolicy(()))
    yield made
    await made.aclose()


async def checked(http: VendorHttp, prepare: Prepare) -> Verdict:
    pair = Pair("plugin", "acme")
    tokens = TokenCache()
    return await run_check(
        pair, prepare, http=http, tokens=tokens, manifest=Plugin.manifest, now_ms=lambda: 1_000, timeout=0.05
    )


def steps(run: object) -> Prepare:
    """A check whose steps are `run`."""

    async def prepare(_: CheckSession) -> object:
        return run

    return prepare  # type: ignore[return-value]  # the tests' runs are plain coroutine functions


async def config() -> ConnectorConfig:
    return CONFIG


async def test_a_check_that_says_nothing_is_ok(http: VendorHttp) -> None:
    verdict = await checked(http, tenant_check(Plugin, config))
    assert (verdict.reason, verdict.fault, verdict.checked_ms) == (Reason.OK, Fault.NONE, 1_000)
    assert [(step.name, step.status) for step in verdict.checks] == [("auth", StepStatus.PASS)]


async def test_an_instance_is_closed_whatever_happens(http: VendorHttp) -> None:
    Plugin.made.clear()

    async def broken() -> ConnectorConfig:
        return ConnectorConfig.model_validate(plugin_config(bug=True))

    await checked(http, tenant_check(Plugin, broken))
    assert [instance.closed for instance in Plugin.made] == [True]


async def test_a_vendor_that_hangs_is_a_timeout(http: VendorHttp) -> None:
    async def run(session: CheckSession) -> None:
        with session.step("api"):
            await asyncio.Event().wait()

    verdict = await checked(http, steps(run))
    assert (verdict.reason, verdict.fault) == (Reason.TIMEOUT, Fault.VENDOR)
    assert (verdict.checks[0].status, verdict.checks[0].error) == (StepStatus.FAIL, "not finished within the deadline")


async def test_a_secret_store_that_hangs_is_not_the_vendors_timeout(http: VendorHttp) -> None:
    async def hang() -> ConnectorConfig:
        await asyncio.Event().wait()
        raise AssertionError

    verdict = await checked(http, tenant_check(Plugin, hang))
    assert (verdict.reason, verdict.fault) == (Reason.SECRET_UNAVAILABLE, Fault.PLATFORM)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SecretUnavailable("the store is down"), Reason.SECRET_UNAVAILABLE),
        (SecretNotFound("no such secret"), Reason.MISCONFIGURED),
        (RuntimeError("oops"), Reason.MONITOR_ERROR),
    ],
)
async def test_what_goes_wrong_before_the_vendor_is_asked(http: VendorHttp, error: Exception, reason: Reason) -> None:
    async def resolve() -> ConnectorConfig:
        raise error

    assert (await checked(http, tenant_check(Plugin, resolve))).reason is reason


async def test_a_warning_degrades_and_a_failure_counts_more(http: VendorHttp) -> None:
    async def warned(session: CheckSession) -> None:
        with session.step("quota"):
            session.warn(Reason.QUOTA_LOW, "3 of 5000 left")

    async def failed(session: CheckSession) -> None:
        await warned(session)
        with session.step("auth"):
            raise CheckFailed(Reason.CREDENTIAL_REJECTED, "revoked")

    verdict = await checked(http, steps(warned))
    assert (verdict.reason, verdict.checks[0].status, verdict.error) == (
        Reason.QUOTA_LOW,
        StepStatus.WARN,
        "3 of 5000 left",
    )
    assert (await checked(http, steps(failed))).reason is Reason.CREDENTIAL_REJECTED


async def test_vendor_text_is_cut_stripped_and_masked(http: VendorHttp) -> None:
    async def run(session: CheckSession) -> None:
        session.note(code="bad\x00code")
        raise CheckFailed(Reason.VENDOR_ERROR, "ghp_abcdefghij\x1b[31m" + "x" * 5_000, evidence={"n": 1})

    verdict = await checked(http, steps(run))
    assert verdict.error is not None
    assert verdict.error.startswith("[masked] [31mx")
    assert len(verdict.error) == 200
    assert verdict.metadata == {"code": "bad code", "n": 1}


async def test_evidence_against_us_sends_nobody_to_the_tenant(http: VendorHttp) -> None:
    async def run(_: CheckSession) -> None:
        raise CheckFailed(Reason.CREDENTIAL_REJECTED, "our clock is wrong", fault=Fault.PLATFORM)

    verdict = await checked(http, steps(run))
    assert verdict.fault is Fault.PLATFORM
    assert (verdict.action or "").startswith("Operators:")


async def gives_up_a_task_of_its_own() -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


async def knows_no_such_reason() -> None:
    raise CheckFailed("vendor_down", "x")  # type: ignore[arg-type]  # a plugin need not be typed


async def says_what_is_no_text() -> None:
    raise CheckFailed(Reason.BAD_RESPONSE, {"vendor": "says"})  # type: ignore[arg-type]  # a plugin need not be typed


@pytest.mark.parametrize("bug", [gives_up_a_task_of_its_own, knows_no_such_reason, says_what_is_no_text])
async def test_a_check_has_a_verdict_whatever_a_plugin_does(
    http: VendorHttp, monkeypatch: pytest.MonkeyPatch, bug: Callable[[], Awaitable[None]]
) -> None:
    monkeypatch.setattr(Buggy, "bug", bug, raising=False)
    verdict = await checked(http, tenant_check(Buggy, config))
    assert (verdict.reason, verdict.fault) == (Reason.MONITOR_ERROR, Fault.PLATFORM)


async def test_a_check_that_is_called_off_ends(http: VendorHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Buggy, "bug", hang, raising=False)
    check = asyncio.create_task(checked(http, tenant_check(Buggy, config)))
    await begun.wait()
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check


async def test_a_deadline_missed_because_the_loop_stood_still_is_no_vendors_fault(
    http: VendorHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()

    async def stand_still() -> None:
        ends = loop.time() + 1
        monkeypatch.setattr(loop, "time", lambda: ends)  # as after a second in which nothing else ran
        await asyncio.Event().wait()

    monkeypatch.setattr(Buggy, "bug", stand_still, raising=False)
    verdict = await checked(http, tenant_check(Buggy, config))
    assert (verdict.reason, verdict.fault) == (Reason.MONITOR_ERROR, Fault.PLATFORM)
    assert "stood still" in (verdict.error or "")


@pytest.mark.parametrize("kind", [ValueError, InvalidConfig])
async def test_a_credential_that_a_factory_repeats_is_masked(
    http: VendorHttp, kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "kX8-a-key-of-no-known-form"

    async def resolved() -> ConnectorConfig:
        return ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": secret}})

    def factory(_: ConnectorConfig) -> Plugin:
        raise kind(f"auth.token: {secret!r} does not begin with acme_")

    verdict = await checked(http, tenant_check(factory, resolved))
    assert verdict.reason in (Reason.MISCONFIGURED, Reason.MONITOR_ERROR)
    assert secret not in repr(verdict) + "".join(capsys.readouterr())
