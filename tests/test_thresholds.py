from itertools import product

import pytest
from msgspec.structs import replace

from registry.health import REASONS, Fault, HealthCheck, Reason, Status, StepStatus, Verdict
from registry.record import Record, decode, encode, shortened
from registry.thresholds import Thresholds, advance

RULES = Thresholds(unhealthy=2, healthy=1, interval_ms=60_000)
DEFINITIVE = [reason for reason, row in REASONS.items() if row.definitive]
TRANSIENT = [Reason.VENDOR_ERROR, Reason.BAD_RESPONSE, Reason.TIMEOUT, Reason.UNREACHABLE]
OURS = [Reason.SECRET_UNAVAILABLE, Reason.MONITOR_ERROR]


def verdict(reason: Reason, at: int = 0, fault: Fault | None = None) -> Verdict:
    return Verdict(reason, fault or REASONS[reason].fault, at)


def after(*reasons: Reason, rules: Thresholds = RULES, fresh_until: int = 10**9, every: int = 60_000) -> Record:
    """The record after checks with these raw reasons, one every interval."""
    record: Record | None = None
    for number, reason in enumerate(reasons):
        record = advance(record, verdict(reason, number * every), rules, revision=1, fence=number)
        record = replace(record, fresh_until_ms=fresh_until)
    assert record is not None
    return record


@pytest.mark.parametrize("reason", Reason)
def test_the_first_check_ever_takes_effect_at_once(reason: Reason) -> None:
    assert after(reason).reason is reason


@pytest.mark.parametrize("reason", DEFINITIVE)
def test_a_definitive_reason_takes_effect_at_once(reason: Reason) -> None:
    record = after(Reason.OK, reason)
    assert (record.status, record.reason, record.fault) == (Status.UNHEALTHY, reason, Fault.TENANT)


@pytest.mark.parametrize("reason", TRANSIENT)
def test_a_transient_failure_takes_effect_when_it_repeats(reason: Reason) -> None:
    once = after(Reason.OK, reason)
    assert (once.status, once.newest and once.newest.reason) == (Status.HEALTHY, reason)
    twice = after(Reason.OK, reason, reason)
    assert (twice.status, twice.reason, twice.raw) == (Status.UNHEALTHY, reason, None)


def test_different_transient_failures_add_up() -> None:
    assert after(Reason.OK, Reason.TIMEOUT, Reason.VENDOR_ERROR).status is Status.UNHEALTHY


def test_a_good_check_between_forgives() -> None:
    assert after(Reason.OK, Reason.TIMEOUT, Reason.OK, Reason.TIMEOUT).status is Status.HEALTHY


def test_one_good_check_is_recovery_by_default() -> None:
    assert after(Reason.TIMEOUT, Reason.TIMEOUT, Reason.OK).status is Status.HEALTHY


def test_recovery_can_ask_for_more() -> None:
    rules = Thresholds(unhealthy=2, healthy=2)
    assert after(Reason.CREDENTIAL_REJECTED, Reason.OK, rules=rules).status is Status.UNHEALTHY
    assert after(Reason.CREDENTIAL_REJECTED, Reason.OK, Reason.OK, rules=rules).status is Status.HEALTHY


@pytest.mark.parametrize("ours", OURS)
def test_our_own_fault_never_counts_against_a_connector(ours: Reason) -> None:
    record = after(Reason.OK, ours, ours, ours)
    assert (record.status, record.newest and record.newest.reason) == (Status.HEALTHY, ours)
    assert after(Reason.OK, Reason.TIMEOUT, ours, Reason.TIMEOUT).status is Status.UNHEALTHY, "counters were kept"


@pytest.mark.parametrize("ours", OURS)
def test_our_own_fault_is_unknown_once_the_verdict_is_too_old(ours: Reason) -> None:
    record = after(Reason.OK, ours, fresh_until=60_000)
    assert (record.status, record.reason, record.fault) == (Status.UNKNOWN, ours, Fault.PLATFORM)


def test_a_timeout_that_is_our_fault_is_unknown_not_unhealthy() -> None:
    raw = verdict(Reason.TIMEOUT, fault=Fault.PLATFORM)
    assert advance(None, raw, RULES, revision=1, fence=1).status is Status.UNKNOWN


def test_any_verdict_ends_unknown() -> None:
    assert after(Reason.MONITOR_ERROR, Reason.TIMEOUT).status is Status.UNHEALTHY


def test_rate_limited_for_too_long_without_authentication_is_unknown() -> None:
    assert after(Reason.OK, *[Reason.RATE_LIMITED] * 3).status is Status.DEGRADED
    limited = after(Reason.OK, *[Reason.RATE_LIMITED] * 4)
    assert (limited.status, limited.reason) == (Status.UNKNOWN, Reason.RATE_LIMITED)


def test_rate_limited_with_a_passed_auth_step_stays_degraded() -> None:
    record = after(Reason.OK)
    auth = (HealthCheck("auth", StepStatus.PASS, 1.0),)
    for number in range(1, 9):
        raw = Verdict(Reason.RATE_LIMITED, Fault.TENANT, number * 60_000, steps=auth)
        record = advance(record, raw, RULES, revision=1, fence=number)
    assert record.status is Status.DEGRADED


def test_since_is_when_status_or_reason_last_changed() -> None:
    assert after(Reason.OK, Reason.OK, Reason.OK).since_ms == 0
    assert after(Reason.OK, Reason.QUOTA_LOW, Reason.QUOTA_LOW).since_ms == 60_000


def test_consecutive_counts_the_same_outcome() -> None:
    assert after(Reason.OK, Reason.OK, Reason.OK).consecutive == 3
    assert after(Reason.OK, Reason.OK, Reason.CREDENTIAL_REJECTED).consecutive == 1


def test_the_evidence_shown_is_of_the_check_the_verdict_rests_on() -> None:
    record = after(Reason.OK, Reason.TIMEOUT)
    assert record.verdict is not None
    assert record.verdict.reason is Reason.OK


@pytest.mark.parametrize(
    "reasons", list(product((Reason.OK, Reason.RATE_LIMITED, Reason.TIMEOUT, Reason.MONITOR_ERROR), repeat=5))
)
def test_a_record_that_was_shortened_in_between_is_judged_alike(reasons: tuple[Reason, ...]) -> None:
    whole: Record | None = None
    short: Record | None = None
    for number, reason in enumerate(reasons, 1):
        raw = Verdict(reason, REASONS[reason].fault, number * 60_000)
        whole = advance(whole, raw, RULES, revision=1, fence=number)
        short = advance(short and decode(encode(shortened(short))), raw, RULES, revision=1, fence=number)
        assert (short.status, short.reason, short.since_ms) == (whole.status, whole.reason, whole.since_ms)
        assert (short.failures, short.last_authenticated_ms) == (whole.failures, whole.last_authenticated_ms)
