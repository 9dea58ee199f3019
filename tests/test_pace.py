from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from registry import keys
from registry.bootstrap import assemble
from registry.connector import ConnectorConfig
from registry.facade import ConnectorRegistry
from registry.health import REASONS, Fault, Quota, Reason, Status, Verdict
from registry.ids import SYSTEM, Pair
from registry.pace import Pace, fresh_until, hard_ttl, in_phase, next_due, spread
from registry.record import Kind, Record, seen
from registry.settings import Settings
from registry.thresholds import Thresholds, advance
from tests.plugin import Plugin, plugin_config

PACE = Pace()
NOW = 1_763_900_000_000
PAIR = Pair("github", "acme")


MINUTE = PACE.interval


def checked(
    reason: Reason,
    *,
    consecutive: int = 1,
    failures: int = 0,
    retry_after: float | None = None,
    resets_ms: int | None = None,
) -> Record:
    row = REASONS[reason]
    quota = Quota(5_000, 10, resets_ms) if resets_ms else None
    verdict = Verdict(reason, row.fault, NOW, retry_after=retry_after, quota=quota)
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
    assert next_due(PAIR, checked(Reason.TIMEOUT, failures=1), PACE, NOW, MINUTE) == NOW + PACE.confirm_delay


def test_a_confirmed_transient_failure_is_checked_at_half_the_interval() -> None:
    assert next_due(PAIR, checked(Reason.TIMEOUT, failures=2), PACE, NOW, MINUTE) == NOW + PACE.interval // 2


def test_a_first_definitive_failure_is_confirmed_soon_too() -> None:
    assert next_due(PAIR, checked(Reason.CREDENTIAL_REJECTED), PACE, NOW, MINUTE) == NOW + PACE.believe_delay


def test_what_the_vendor_is_suspected_of_is_asked_at_the_usual_pace() -> None:
    record = checked(Reason.CREDENTIAL_REJECTED, consecutive=400)
    assert record.verdict is not None
    suspected = replace(record, verdict=replace(record.verdict, fault=Fault.VENDOR))
    assert next_due(PAIR, suspected, PACE, NOW, MINUTE) - NOW <= PACE.interval


@pytest.mark.parametrize("reason", [Reason.SECRET_UNAVAILABLE, Reason.MONITOR_ERROR])
def test_what_failed_by_our_own_fault_is_asked_again_at_the_usual_pace_however_long_the_pairs_own(
    reason: Reason,
) -> None:
    good = checked(Reason.OK)
    for record in (checked(reason), replace(good, raw=checked(reason).verdict)):
        assert MINUTE // 2 <= next_due(PAIR, record, PACE, NOW, 1440 * MINUTE) - NOW <= MINUTE
        assert 3 * MINUTE // 2 <= next_due(PAIR, record, PACE, NOW, 1440 * MINUTE, share=3 * MINUTE) - NOW <= 3 * MINUTE
        assert next_due(PAIR, record, PACE, NOW, 10_000) - NOW <= 10_000


@pytest.mark.parametrize(("consecutive", "intervals"), [(2, 1), (3, 1), (4, 2), (6, 8), (9, 15), (400, 15)])
def test_what_is_definitively_broken_is_asked_less_and_less_up_to_a_ceiling(consecutive: int, intervals: int) -> None:
    wait = next_due(PAIR, checked(Reason.CREDENTIAL_REJECTED, consecutive=consecutive), PACE, NOW, MINUTE) - NOW
    assert intervals * PACE.interval // 2 <= wait <= intervals * PACE.interval


def test_retry_after_is_honoured_and_bounded() -> None:
    wait = next_due(PAIR, checked(Reason.RATE_LIMITED, retry_after=300), PACE, NOW, MINUTE) - NOW
    assert 300_000 <= wait <= 300_000 + MINUTE // 4
    for_ever = checked(Reason.RATE_LIMITED, retry_after=10**9)
    assert next_due(PAIR, for_ever, PACE, NOW, MINUTE) == NOW + PACE.backoff_max


@pytest.mark.parametrize("reason", [Reason.RATE_LIMITED, Reason.QUOTA_LOW])
def test_a_quota_that_is_used_up_is_left_alone_until_it_resets(reason: Reason) -> None:
    wait = next_due(PAIR, checked(reason, resets_ms=NOW + 300_000), PACE, NOW, MINUTE) - NOW
    assert 300_000 <= wait <= 300_000 + MINUTE // 4
    assert next_due(PAIR, checked(reason, resets_ms=NOW + 10**9), PACE, NOW, MINUTE) == NOW + PACE.backoff_max


def test_a_reset_says_nothing_while_enough_is_left_or_when_it_is_over() -> None:
    usual = next_due(PAIR, checked(Reason.OK), PACE, NOW, MINUTE)
    assert next_due(PAIR, checked(Reason.OK, resets_ms=NOW + 300_000), PACE, NOW, MINUTE) == usual
    assert next_due(PAIR, checked(Reason.QUOTA_LOW, resets_ms=NOW - 1), PACE, NOW, MINUTE) == usual


def test_pairs_that_are_sent_away_until_the_same_moment_come_back_apart() -> None:
    record = checked(Reason.RATE_LIMITED, retry_after=300)
    seconds = {next_due(Pair("github", f"t{n}"), record, PACE, NOW, MINUTE) // 1_000 for n in range(200)}
    assert len(seconds) == 15


@pytest.mark.parametrize("consecutive", range(2, 12))
def test_pairs_that_break_together_come_back_apart(consecutive: int) -> None:
    record = checked(Reason.CREDENTIAL_REJECTED, consecutive=consecutive)
    waits = [next_due(Pair("github", f"t{n}"), record, PACE, NOW, MINUTE) - NOW for n in range(600)]
    longest = max(waits)
    in_tenths = Counter((wait - longest // 2) * 10 // (longest // 2 + 1) for wait in waits)
    assert max(in_tenths.values()) < 600 / 5


def test_an_unconfirmed_failure_is_confirmed_soon_whatever_the_vendor_asks() -> None:
    """Otherwise a vendor that answers 503 with a long ``Retry-After`` would be called healthy for as long."""
    good = checked(Reason.OK)
    failing = checked(Reason.VENDOR_ERROR, failures=1, retry_after=3_600)
    record = replace(good, failures=1, raw=failing.verdict)
    assert next_due(PAIR, record, PACE, NOW, MINUTE) == NOW + PACE.confirm_delay


def test_a_pair_that_is_only_rate_limited_is_not_believed_for_long() -> None:
    record = replace(checked(Reason.RATE_LIMITED, retry_after=86_400), authenticated_ms=NOW)
    due = next_due(PAIR, record, PACE, NOW, MINUTE)
    assert fresh_until(record, due, PACE, MINUTE) == NOW + 3 * PACE.interval + PACE.grace
    assert fresh_until(record, due, PACE, 600_000) == due + PACE.grace


def test_a_pairs_own_interval_goes_before_its_connectors_and_that_before_everybodys() -> None:
    pace = Pace.of(Settings(_env_file=None, check_intervals={"vertex": 300}))
    config = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://T"}})
    own = config.model_copy(update={"interval": 600.0})
    assert [pace.every(PAIR, None), pace.every(PAIR, config), pace.every(PAIR, own)] == [60_000, 60_000, 600_000]
    vertex = Pair("vertex", "acme")
    assert [pace.every(vertex, None), pace.every(vertex, config), pace.every(vertex, own)] == [
        300_000,
        300_000,
        600_000,
    ]


def test_a_tenants_interval_goes_before_its_connectors_and_behind_its_pairs_own() -> None:
    pace = Pace.of(Settings(_env_file=None, check_intervals={"vertex": 300}, tenant_intervals={"acme": 30}))
    config = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://T"}})
    own = config.model_copy(update={"interval": 600.0})
    vertex, other = Pair("vertex", "acme"), Pair("vertex", "globex")
    assert [pace.every(vertex, config), pace.every(vertex, own), pace.every(other, config)] == [
        30_000,
        600_000,
        300_000,
    ]
    assert pace.every(Pair("vertex", SYSTEM), None) == 300_000, "a service check is nobody's"


def test_a_pair_that_shares_a_budget_waits_for_its_share_and_is_believed_meanwhile() -> None:
    record = checked(Reason.OK)
    due = next_due(PAIR, record, PACE, NOW, MINUTE, share=600_000)
    assert 300_000 <= due - NOW <= 600_000
    assert fresh_until(record, due, PACE, MINUTE, share=600_000) == due + 150_000
    failing = checked(Reason.TIMEOUT, failures=2)
    assert next_due(PAIR, failing, PACE, NOW, MINUTE, share=600_000) == NOW + 600_000
    first = checked(Reason.TIMEOUT, failures=1)
    assert next_due(PAIR, first, PACE, NOW, MINUTE, share=600_000) == NOW + PACE.confirm_delay


def test_a_verdict_is_fresh_until_its_own_next_check_and_a_grace() -> None:
    assert fresh_until(checked(Reason.OK), NOW + 60_000, PACE, MINUTE) == NOW + 60_000 + PACE.grace


def test_a_check_that_failed_by_our_fault_extends_nothing() -> None:
    record = replace(
        checked(Reason.OK),
        fresh_until_ms=NOW + 5,
        raw=Verdict(Reason.MONITOR_ERROR, REASONS[Reason.MONITOR_ERROR].fault, NOW),
    )
    assert record.raw is not None
    assert record.raw.status is Status.UNKNOWN
    assert fresh_until(record, NOW + 60_000, PACE, MINUTE) == NOW + 5


def test_the_record_outlives_its_freshness_by_three_intervals() -> None:
    ttl = hard_ttl(PAIR, NOW + 90_000, NOW, MINUTE)
    assert 90_000 + 0.9 * 180_000 <= ttl <= 90_000 + 1.1 * 180_000


async def test_a_connectors_interval_says_when_its_pairs_are_due_fresh_and_forgotten(settings: Settings) -> None:
    parts = assemble(settings.model_copy(update={"check_intervals": {"plugin": 600.0}}))
    parts.catalog.register("plugin", Plugin)
    pair = Pair("plugin", "acme")
    await parts.configurations.set(pair, plugin_config(), actor="test")
    status = await ConnectorRegistry(parts).health_check("plugin", tenant_id="acme", max_age=0)
    shard, now = parts.schedule.shard(pair), parts.clock.now_ms()
    due = await parts.redis.zscore(keys.due(shard, "plugin"), "acme")
    assert due is not None
    assert 290_000 < due - now <= 600_000
    assert status.fresh_until_ms == due + PACE.grace
    kept = await parts.redis.pttl(keys.verdict(shard, pair))
    assert kept - (due + PACE.grace - now) > 1_500_000, "three intervals, ± 10 %, and what this test took"
    await parts.aclose()


intervals = st.integers(1_000, 86_400_000)
shares = st.sampled_from([0, 0, 0]) | st.integers(1_000, 86_400_000)
pairs = st.builds(Pair, st.just("github"), st.text("abcdefgh", min_size=1, max_size=6))
moments = st.integers(NOW, NOW + 10**8)
records = st.builds(
    checked,
    st.sampled_from([reason for reason, row in REASONS.items() if row.status is not Status.UNKNOWN]),
    consecutive=st.integers(1, 100),
    failures=st.integers(0, 5),
    retry_after=st.none() | st.floats(0, 10**7),
    resets_ms=st.none() | st.integers(NOW - 10**6, NOW + 10**10),
)


@given(pairs, records, moments, intervals, shares)
def test_no_turn_is_sooner_than_its_floor_or_later_than_its_ceiling(
    pair: Pair, record: Record, now: int, every: int, share: int
) -> None:
    wait = next_due(pair, record, PACE, now, every, share) - now
    assert min(every, PACE.confirm_delay, every // 2) <= wait <= max(every, share, PACE.backoff_max)


@given(pairs, records, moments, intervals, shares)
def test_a_turn_depends_on_nothing_but_what_it_is_made_of(
    pair: Pair, record: Record, now: int, every: int, share: int
) -> None:
    assert next_due(pair, record, PACE, now, every, share) == next_due(pair, record, PACE, now, every, share)


@given(pairs, st.floats(0.001, 10**6), st.sampled_from([Reason.RATE_LIMITED, Reason.OK]), intervals, shares)
def test_nobody_comes_back_before_retry_after_or_much_later(
    pair: Pair, seconds: float, reason: Reason, every: int, share: int
) -> None:
    asked = NOW + min(int(seconds * 1000), max(every, share, PACE.backoff_max))
    due = next_due(pair, checked(reason, retry_after=seconds), PACE, NOW, every, share)
    usual = next_due(pair, checked(reason), PACE, NOW, every, share)
    assert asked <= due <= max(usual, asked + max(every, share) // 4)


@given(pairs, st.integers(1, 86_400), moments, shares)
def test_backing_off_never_becomes_quicker_again(pair: Pair, seconds: int, now: int, share: int) -> None:
    every, waits = seconds * 1000, list[int]()
    for step in range(2, 16):
        record = checked(Reason.CREDENTIAL_REJECTED, consecutive=step)
        due = next_due(pair, record, PACE, now, every, share)
        waits.append(due - now)
        now = due
    ceiling = max(every, share, PACE.backoff_max)
    assert all(later >= sooner - 1 for sooner, later in pairwise(waits) if sooner < ceiling // 2)
    assert waits[-1] >= ceiling // 2


def test_a_verdict_that_is_too_old_is_not_brought_back_by_a_failure_that_awaits_confirmation() -> None:
    ok = advance(None, Verdict(Reason.OK, Fault.NONE, NOW), Thresholds(), revision=1, fence=1)
    old = replace(ok, fresh_until_ms=NOW + MINUTE)
    later = NOW + 3 * MINUTE
    failed = advance(old, Verdict(Reason.UNREACHABLE, Fault.VENDOR, later), Thresholds(), revision=1, fence=2)
    due = next_due(PAIR, failed, PACE, later, MINUTE)
    told = seen(PAIR, replace(failed, fresh_until_ms=fresh_until(failed, due, PACE, MINUTE)), later)
    assert (told.status, told.reason, told.healthy) == (Status.UNKNOWN, Reason.STALE, False)
    again = Verdict(Reason.UNREACHABLE, Fault.VENDOR, due)
    confirmed = advance(failed, again, Thresholds(), revision=1, fence=3)
    due = next_due(PAIR, confirmed, PACE, again.checked_ms, MINUTE)
    told = seen(PAIR, replace(confirmed, fresh_until_ms=fresh_until(confirmed, due, PACE, MINUTE)), again.checked_ms)
    assert (told.status, told.reason) == (Status.UNHEALTHY, Reason.UNREACHABLE)
