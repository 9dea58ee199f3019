"""A pair's history: what is credited, what is unknown, and that it stays small, alone and in order."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.errors import CacheUnavailable, UnknownConnector
from registry.facade import ConnectorRegistry
from registry.health import Fault, Reason, Status
from registry.history import (
    BOUNDS_MS,
    ERROR,
    FAULT_CODES,
    REASON_CODES,
    STATUS_CODES,
    History,
    Turn,
    Window,
    entry,
    read,
)
from registry.record import Kind, Record
from registry.recording import Outcome
from registry.settings import Settings
from registry.view import HealthView
from tests.fixtures_history import DAY, HOUR, MINUTE, PAIR, START, Past, verdict
from tests.plugin import Plugin, plugin_config


@pytest.fixture
async def past(parts: Parts) -> Past:
    made = Past(parts)
    await made.begin()
    return made


def seconds(window: Window) -> tuple[int, int, int, int]:
    return window.healthy, window.degraded, window.unhealthy, window.unknown


# What is credited


async def test_time_counts_and_not_the_number_of_checks(past: Past) -> None:
    await past.every_minute(START, START + 10 * MINUTE)
    await past.check(START + 11 * MINUTE, Reason.CREDENTIAL_REJECTED)
    for at in range(START + 11 * MINUTE + 1, START + 12 * MINUTE + 1):
        await past.check(at, Reason.CREDENTIAL_REJECTED)
    day = (await past.read()).day
    assert seconds(day) == (11 * MINUTE, 0, MINUTE, 0)
    assert day.uptime == pytest.approx(100 * 11 / 12)


async def test_the_last_day_is_told_by_the_hour(past: Past) -> None:
    assert (await past.read()).hours() == ()
    await past.every_minute(START + HOUR // 2, START + HOUR)
    await past.every_minute(START + HOUR + MINUTE, START + 2 * HOUR, Reason.CREDENTIAL_REJECTED)
    await past.check(START + 2 * HOUR + MINUTE)
    hours = (await past.read(START + 3 * HOUR)).hours()
    assert [hour.from_ms // 1000 - START for hour in hours] == [HOUR // 2, HOUR, 2 * HOUR, 3 * HOUR]
    assert [seconds(hour) for hour in hours[:2]] == [(HOUR // 2, 0, 0, 0), (MINUTE, 0, HOUR - MINUTE, 0)]
    assert hours[2].unhealthy == MINUTE
    assert hours[2].unknown > HOUR // 2, "nobody has checked since"
    assert len((await past.read(START + 40 * HOUR)).hours()) == 25


async def test_degraded_is_up(past: Past) -> None:
    await past.every_minute(START, START + 5 * MINUTE, Reason.SLOW)
    day = (await past.read()).day
    assert (day.degraded, day.uptime) == (5 * MINUTE, 100.0)


async def test_an_unconfirmed_failure_is_credited_as_the_reader_saw_it(past: Past) -> None:
    await past.check(START)
    await past.check(START + 60, Reason.VENDOR_ERROR)
    await past.check(START + 65, Reason.VENDOR_ERROR)
    await past.check(START + 95, Reason.OK)
    assert seconds((await past.read()).day) == (65, 0, 30, 0)


async def test_the_stretch_since_the_last_check_counts_until_it_is_stale(past: Past) -> None:
    _, record = await past.check(START)
    assert record is not None
    fresh = record.fresh_until_ms // 1000 - START
    assert seconds((await past.read(START + 30)).day) == (30, 0, 0, 0)
    assert seconds((await past.read(START + fresh + 1000)).day) == (fresh, 0, 0, 1000)


async def test_a_monitor_that_was_down_for_hours_leaves_unknown_and_not_up(past: Past) -> None:
    _, record = await past.check(START)
    assert record is not None
    fresh = record.fresh_until_ms // 1000 - START
    await past.check(START + 5 * HOUR)
    for window in ((await past.read()).day, (await past.read()).week):
        assert seconds(window) == (fresh, 0, 0, 5 * HOUR - fresh)
        assert window.uptime == 100.0, "of the known time"


async def test_a_fault_of_ours_is_unknown_once_the_verdict_is_stale(past: Past) -> None:
    _, record = await past.check(START)
    assert record is not None
    fresh = record.fresh_until_ms // 1000 - START
    await past.every_minute(START + MINUTE, START + 30 * MINUTE, Reason.MONITOR_ERROR)
    assert seconds((await past.read()).day) == (fresh, 0, 0, 30 * MINUTE - fresh)


async def test_a_reset_verdict_is_unknown_until_the_next_check_and_the_history_stays(past: Past) -> None:
    await past.every_minute(START, START + 10 * MINUTE)
    await past.begin(revision=2)
    await past.check(START + 11 * MINUTE)
    assert seconds((await past.read()).day) == (10 * MINUTE, 0, 0, MINUTE)
    await past.parts.schedule.rotate(PAIR)
    await past.check(START + 12 * MINUTE)
    assert seconds((await past.read()).day) == (10 * MINUTE, 0, 0, 2 * MINUTE)


async def test_a_day_week_and_month_reach_as_far_as_they_say(past: Past) -> None:
    for day in range(40):
        reason = Reason.CREDENTIAL_REJECTED if day == 30 else Reason.OK
        await past.every_minute(START + day * DAY, START + day * DAY + 10 * MINUTE, reason)
    now = START + 39 * DAY + 10 * MINUTE
    history = await past.read(now)
    reach = [now - window.from_ms // 1000 for window in (history.day, history.week, history.month)]
    assert reach == [DAY + 10 * MINUTE, 7 * DAY + 10 * MINUTE, 30 * DAY + 10 * MINUTE]
    assert history.since_ms == START * 1000
    assert (history.day.unhealthy, history.week.unhealthy) == (0, 0)
    assert history.month.unhealthy >= 10 * MINUTE
    assert history.month.healthy == pytest.approx(30 * 10 * MINUTE, abs=31 * 2 * MINUTE)


async def test_nothing_is_left_of_what_is_a_month_and_more_ago(past: Past) -> None:
    await past.every_minute(START, START + 10 * MINUTE, Reason.CREDENTIAL_REJECTED)
    await past.check(START + 40 * DAY)
    history = await past.read()
    assert seconds(history.month) == (0, 0, 0, 30 * DAY)
    assert history.month.uptime is None
    assert history.latency.count == 1


# What is credited once


async def test_a_redelivered_batch_changes_nothing(past: Past) -> None:
    await past.check(START)
    old, _ = await past.check(START + MINUTE, Reason.CREDENTIAL_REJECTED)
    new, _ = await past.check(START + 2 * MINUTE)
    before = await past.read()
    for outcome in (old, new, changed(new, task=changed(new.task, previous=None))):
        assert await past.recorder.record([outcome]) == {}
    assert await past.read() == before


async def test_two_workers_with_one_result_credit_it_once(past: Past, parts: Parts) -> None:
    await past.check(START)
    task = await parts.schedule.task(PAIR)
    assert task is not None
    past.clock.at = START + MINUTE
    outcome = Outcome(task, verdict(Reason.OK, START + MINUTE), "github|api.github.com")
    wrote = await asyncio.gather(past.recorder.record([outcome]), past.recorder.record([outcome]))
    assert sum(PAIR in written for written in wrote) == 1
    history = await past.read()
    assert (history.latency.count, history.day.healthy) == (2, MINUTE)


async def test_what_was_not_written_as_a_verdict_is_not_credited(past: Past, parts: Parts) -> None:
    await past.check(START)
    late = await parts.schedule.task(PAIR)
    await past.check(START + MINUTE)
    assert late is not None
    assert await past.recorder.record([Outcome(late, verdict(Reason.OK, START + 50), "github|x")]) == {}
    assert (await past.read()).latency.count == 2


async def test_a_clock_set_back_by_minutes_credits_nothing_twice_and_by_days_begins_anew(past: Past) -> None:
    await past.every_minute(START, START + 30 * MINUTE)
    await past.check(START + 20 * MINUTE)
    await past.check(START + 21 * MINUTE)
    assert (await past.read(START + 30 * MINUTE)).day.healthy == 30 * MINUTE
    await past.check(START - 2 * DAY)
    history = await past.read()
    assert history.since_ms == (START - 2 * DAY) * 1000
    assert seconds(history.month) == (0, 0, 0, 0)


# Latency and transitions


@given(st.lists(st.floats(1.0, BOUNDS_MS[-1]), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_percentiles_are_within_their_bound(latencies: list[float], part: float) -> None:
    history = of_latencies(latencies)
    found = {0.5: history.latency.p50, 0.95: history.latency.p95, 0.99: history.latency.p99}[part]
    true = sorted(latencies)[-(-len(latencies) * int(part * 100) // 100) - 1]
    assert found is not None
    assert true / (1 + ERROR) * 0.999 <= found <= true * (1 + ERROR) * 1.001


def test_latencies_beyond_both_ends_are_told_as_the_ends() -> None:
    assert of_latencies([0.01]).latency.p50 == 1.0
    assert of_latencies([90_000.0]).latency.p50 == BOUNDS_MS[-1]


def of_latencies(latencies: list[float]) -> History:
    """A history as it is stored after checks with these latencies, put together by hand."""
    counts = [0] * 48
    for latency in latencies:
        record = Record(1, 1, Kind.CHECKED)
        counts[entry(None, record, verdict(Reason.OK, START, latency), turned=False)[13] - 1] += 1
    header = struct.pack(">BBBBIIII", 1, 0, 0, 0, START, START, START, START)
    wire = (header + struct.pack(">48H", *counts)).ljust(761, b"\0")
    return read(PAIR, wire, None, START * 1000)


async def test_only_usable_checks_of_today_and_yesterday_have_a_latency(past: Past) -> None:
    await past.check(START, latency_ms=100)
    await past.check(START + 60, Reason.CREDENTIAL_REJECTED, latency_ms=20_000)
    await past.check(START + DAY, latency_ms=1_000)
    assert (await past.read()).latency.count == 2
    await past.check(START + 2 * DAY, latency_ms=1_000)
    latency = (await past.read()).latency
    assert latency.count == 2
    assert latency.p50 == pytest.approx(1_000, rel=ERROR)
    assert (await past.read(START + 5 * DAY)).latency.count == 0
    await past.check(START + 5 * DAY)
    assert (await past.read()).latency.count == 1


async def test_the_last_twenty_transitions_are_kept_the_newest_first(past: Past) -> None:
    for turn in range(25):
        await past.check(START + turn * 60, Reason.CREDENTIAL_REJECTED if turn % 2 else Reason.OK)
        await past.check(START + turn * 60 + 30, Reason.CREDENTIAL_REJECTED if turn % 2 else Reason.OK)
    turns = (await past.read()).transitions
    assert [turn.at_ms for turn in turns] == [(START + turn * 60) * 1000 for turn in range(24, 4, -1)]
    assert turns[0] == Turn((START + 24 * 60) * 1000, Status.HEALTHY, Reason.OK, Fault.NONE)
    assert turns[1].as_dict() == {
        "at": "2024-10-04T00:23:00.000Z",
        "status": "unhealthy",
        "reason": "credential_rejected",
        "fault": "tenant",
    }


def test_the_numbers_that_stand_for_words_never_change() -> None:
    assert {status.value: code for status, code in STATUS_CODES.items()} == {
        "healthy": 1,
        "degraded": 2,
        "unhealthy": 3,
        "unknown": 4,
    }
    assert {fault.value: code for fault, code in FAULT_CODES.items()} == {
        "none": 0,
        "tenant": 1,
        "vendor": 2,
        "platform": 3,
    }
    assert [reason.value for reason in sorted(REASON_CODES, key=REASON_CODES.__getitem__)] == [
        "ok",
        "slow",
        "rate_limited",
        "quota_low",
        "credential_expiring",
        "credential_expired",
        "credential_rejected",
        "permission_denied",
        "account_suspended",
        "misconfigured",
        "not_found",
        "vendor_error",
        "bad_response",
        "timeout",
        "unreachable",
        "secret_unavailable",
        "monitor_error",
        "not_checked",
        "stale",
        "not_configured",
    ]
    assert sorted(REASON_CODES.values()) == list(range(1, 21))


def test_every_word_has_a_number() -> None:
    assert (set(STATUS_CODES), set(FAULT_CODES), set(REASON_CODES)) == (set(Status), set(Fault), set(Reason))


# How it is kept


async def test_a_history_takes_less_than_a_kilobyte_however_long_and_eventful(past: Past, parts: Parts) -> None:
    key = keys.history(parts.schedule.shard(PAIR), PAIR)
    sizes = []
    for turn in range(300):
        await past.check(START + turn * 5 * HOUR, Reason.CREDENTIAL_REJECTED if turn % 2 else Reason.OK)
        sizes.append((await parts.redis.memory_usage(key) or 0, await parts.redis.strlen(key)))
    assert len(set(sizes)) == 1, "nothing grows"
    assert sizes[0][0] <= 1024
    assert 31 * DAY * 1000 < await parts.redis.pttl(key) <= 32 * DAY * 1000


@pytest.mark.parametrize("wire", [b"", b"\x01", bytes(761), b"\x02" + bytes(760), b"x" * 900])
async def test_a_history_of_another_version_reads_as_none_and_is_written_over(past: Past, wire: bytes) -> None:
    key = keys.history(past.parts.schedule.shard(PAIR), PAIR)
    await past.parts.redis.set(key, wire)
    history = await past.read()
    assert (history.since_ms, history.day.uptime, history.transitions) == (None, None, ())
    await past.check(START)
    await past.check(START + 30)
    history = await past.read()
    assert (history.since_ms, history.day.healthy) == (START * 1000, 30)


def test_a_reason_of_a_newer_version_is_left_out() -> None:
    turn = struct.pack(">IBB", START, 1, 99) + struct.pack(">IBB", START + 1, 1, 1)
    wire = struct.pack(">BBBBIIII", 1, 2, 0, 0, START, START, START, START) + bytes(621) + turn + bytes(108)
    assert [turn.at_ms for turn in read(PAIR, wire, None, START * 1000).transitions] == [(START + 1) * 1000]


async def test_a_removed_pair_leaves_no_history_and_begins_anew(past: Past, parts: Parts) -> None:
    await past.every_minute(START, START + 10 * MINUTE)
    under_way = await parts.schedule.task(PAIR)
    assert under_way is not None
    await parts.schedule.remove(PAIR, 2)
    assert await past.recorder.record([Outcome(under_way, verdict(Reason.OK, START + 700), "github|x")]) == {}
    assert not await parts.redis.exists(keys.history(parts.schedule.shard(PAIR), PAIR))
    await past.begin(revision=3)
    await past.check(START + 20 * MINUTE)
    assert (await past.read()).since_ms == (START + 20 * MINUTE) * 1000


async def test_switched_off_nothing_is_kept(parts: Parts) -> None:
    off = replace(parts, settings=parts.settings.model_copy(update={"history": False}))
    past = Past(off)
    await past.begin()
    _, record = await past.check(START)
    assert record is not None
    assert not await parts.redis.exists(keys.history(parts.schedule.shard(PAIR), PAIR))


# How it is read


@pytest.fixture
async def registry(settings: Settings) -> AsyncIterator[ConnectorRegistry]:
    async with ConnectorRegistry(assemble(settings)) as made:
        made.register("plugin", Plugin)
        for tenant in ("acme", "acme.eu"):
            await made.set_config("plugin", plugin_config(), tenant_id=tenant, actor="ann")
        await made.health_check("plugin", tenant_id="acme", max_age=0)
        yield made


async def test_the_facade_and_the_view_read_the_same(registry: ConnectorRegistry, settings: Settings) -> None:
    history = await registry.history("plugin", tenant_id="acme")
    assert [turn.status for turn in history.transitions] == [Status.HEALTHY]
    assert history.latency.count == 1
    with HealthView(settings.redis_url, shards=settings.shards, timeout=2) as view:
        seen, page = view.history("plugin", "acme"), view.histories("acme")
        assert list(page) == ["plugin"]
        for one in (seen, page["plugin"], view.histories("acme", ["plugin", "github"])["plugin"]):
            assert (one.since_ms, one.transitions) == (history.since_ms, history.transitions)


async def test_a_page_has_every_connector_and_a_stranger_no_history(registry: ConnectorRegistry) -> None:
    page = await registry.history_all(tenant_id="acme")
    assert set(page) == set(registry.list())
    assert page["github"].since_ms is None
    with pytest.raises(UnknownConnector):
        await registry.history("fax", tenant_id="acme")


async def test_nothing_of_a_tenant_is_in_anothers_history(registry: ConnectorRegistry) -> None:
    neighbour = await registry.history("plugin", tenant_id="acme.eu")
    assert (neighbour.tenant_id, neighbour.since_ms, neighbour.transitions) == ("acme.eu", None, ())
    await registry.health_check("plugin", tenant_id="acme.eu", max_age=0)
    before = await registry.history("plugin", tenant_id="acme")
    await registry.delete_config("plugin", tenant_id="acme.eu", actor="ann")
    assert (await registry.history("plugin", tenant_id="acme")).transitions == before.transitions
    assert (await registry.history("plugin", tenant_id="acme.eu")).since_ms is None


async def test_without_redis_there_is_an_error_and_no_empty_history() -> None:
    away = Settings.model_validate({"redis_url": "redis://127.0.0.1:1/1", "config_store": "memory"})
    async with ConnectorRegistry(assemble(away)) as registry:
        with pytest.raises(CacheUnavailable):
            await registry.history("github", tenant_id="acme")
        with pytest.raises(CacheUnavailable):
            await registry.history_all(tenant_id="acme")
    with HealthView(away.redis_url) as view, pytest.raises(CacheUnavailable):
        view.history("github", "acme")
