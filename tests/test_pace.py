from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from registry.health import REASONS, Fault, Reason, Status, Verdict
from registry.ids import Pair
from registry.pace import Pace, fresh_until, hard_ttl, in_phase, next_due, spread
from registry.record import Kind, Record

PACE = Pace()
NOW = 1_763_900_000_000
PAIR = Pair("github", "acme")


def checked(reason: Reason, *, consecutive: int = 1, failures: int = 0, retry_after: float | None = None) -> Record:
    row = REASONS[reason]
    verdict = Verdict(reason, row.fault, NOW, retry_after=retry_after)
    return Record(
        1, 1, Kind.CHECKED, row.status, reason, row.fault, consecutive=consecutive, failures=failures, verdict=verdict
    )


@given(st.integers(0, 2**42), st.sampled_from([1_000, 60_000, 900_000]), st.text(min_size=1))
def test_a_turn_is_half_to_one_interval_away_and_the_second_at_the_pairs_own_phase(
    now: int, every: int, name: str
) -> None:
    pair = Pair("github", name)
    turn = in_phase(pair, every, now)
    assert every // 2 <= turn - now <= every
    second = in_phase(pair, every, turn)
    assert every // 2 <= second - turn <= every
    assert second % every == int(spread(pair) * every) % every


def test_phases_are_flat_over_many_pairs() -> None:
    seconds = Counter(int(spread(Pair("github", f"tenant-{n}")) * 60) for n in range(60_000))
    assert len(seconds) == 60
    assert max(seconds.values()) < 1.15 * min(seconds.values()) + 50


def test_a_first_transient_failure_is_confirmed_soon() -> None:
    assert next_due(PAIR, checked(Reason.TIMEOUT, failures=1), PACE, NOW) == NOW + PACE.confirm_delay


def test_a_confirmed_transient_failure_is_checked_at_half_the_interval() -> None:
    assert next_due(PAIR, checked(Reason.TIMEOUT, failures=2), PACE, NOW) == NOW + PACE.interval // 2


def test_a_first_definitive_failure_is_confirmed_soon_too() -> None:
    assert next_due(PAIR, checked(Reason.CREDENTIAL_REJECTED), PACE, NOW) == NOW + PACE.believe_delay


def test_what_the_vendor_is_suspected_of_is_asked_at_the_usual_pace() -> None:
    record = checked(Reason.CREDENTIAL_REJECTED, consecutive=400)
    assert record.verdict is not None
    suspected = replace(record, verdict=replace(record.verdict, fault=Fault.VENDOR))
    assert next_due(PAIR, suspected, PACE, NOW) - NOW <= PACE.interval


@pytest.mark.parametrize(("consecutive", "intervals"), [(2, 1), (3, 1), (4, 2), (6, 8), (9, 15), (400, 15)])
def test_what_is_definitively_broken_is_asked_less_and_less_up_to_a_ceiling(consecutive: int, intervals: int) -> None:
    wait = next_due(PAIR, checked(Reason.CREDENTIAL_REJECTED, consecutive=consecutive), PACE, NOW) - NOW
    assert intervals * PACE.interval // 2 <= wait <= intervals * PACE.interval


def test_retry_after_is_honoured_and_bounded() -> None:
    assert next_due(PAIR, checked(Reason.RATE_LIMITED, retry_after=300), PACE, NOW) == NOW + 300_000
    assert next_due(PAIR, checked(Reason.RATE_LIMITED, retry_after=10**9), PACE, NOW) == NOW + PACE.backoff_max


def test_an_unconfirmed_failure_is_confirmed_soon_whatever_the_vendor_asks() -> None:
    """Otherwise a vendor that answers 503 with a long ``Retry-After`` would be called healthy for as long."""
    good = checked(Reason.OK)
    failing = checked(Reason.VENDOR_ERROR, failures=1, retry_after=3_600)
    record = replace(good, failures=1, raw=failing.verdict)
    assert next_due(PAIR, record, PACE, NOW) == NOW + PACE.confirm_delay


def test_a_pair_that_is_only_rate_limited_is_not_believed_for_long() -> None:
    record = replace(checked(Reason.RATE_LIMITED, retry_after=86_400), authenticated_ms=NOW)
    due = next_due(PAIR, record, PACE, NOW)
    assert fresh_until(record, due, PACE) == NOW + 3 * PACE.interval + PACE.grace
    assert fresh_until(record, due, PACE, interval=600) == due + PACE.grace


def test_a_pair_may_have_an_interval_of_its_own() -> None:
    wait = next_due(PAIR, checked(Reason.OK), PACE, NOW, interval=600) - NOW
    assert 300_000 <= wait <= 600_000


def test_a_verdict_is_fresh_until_its_own_next_check_and_a_grace() -> None:
    assert fresh_until(checked(Reason.OK), NOW + 60_000, PACE) == NOW + 60_000 + PACE.grace


def test_a_check_that_failed_by_our_fault_extends_nothing() -> None:
    record = replace(
        checked(Reason.OK),
        fresh_until_ms=NOW + 5,
        raw=Verdict(Reason.MONITOR_ERROR, REASONS[Reason.MONITOR_ERROR].fault, NOW),
    )
    assert record.raw is not None
    assert record.raw.status is Status.UNKNOWN
    assert fresh_until(record, NOW + 60_000, PACE) == NOW + 5


def test_the_record_outlives_its_freshness_by_three_intervals() -> None:
    ttl = hard_ttl(PAIR, NOW + 90_000, PACE, NOW)
    assert 90_000 + 0.9 * 180_000 <= ttl <= 90_000 + 1.1 * 180_000
