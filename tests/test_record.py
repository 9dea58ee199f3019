import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from registry.health import (
    REASONS,
    Fault,
    HealthCheck,
    Quota,
    Reason,
    Status,
    StepStatus,
    Verdict,
)
from registry.ids import Pair
from registry.record import Kind, Record, decode, encode, seen, seen_alone

PAIR = Pair("github", "acme")
OK = Verdict(Reason.OK, Fault.NONE, checked_ms=1_000, latency_ms=12.5)
RECORD = Record(
    revision=3,
    fence=7,
    kind=Kind.CHECKED,
    status=Status.HEALTHY,
    reason=Reason.OK,
    fault=Fault.NONE,
    since_ms=500,
    fresh_until_ms=2_000,
    consecutive=4,
    successes=4,
    authenticated_ms=1_000,
    verdict=OK,
)

text = st.text(max_size=30)
scalars = st.one_of(text, st.integers(-(2**53), 2**53), st.booleans())
evidence = st.dictionaries(text, scalars, max_size=3)
steps = st.builds(
    HealthCheck, text, st.sampled_from(StepStatus), st.floats(0, 1e6), st.none() | text.filter(bool), evidence
)
verdicts = st.builds(
    Verdict,
    reason=st.sampled_from(Reason),
    fault=st.sampled_from(Fault),
    checked_ms=st.integers(1, 2**45),
    error=st.none() | text.filter(bool),
    steps=st.lists(steps | text, max_size=3).map(tuple),
    latency_ms=st.floats(0, 1e6),
    metadata=evidence,
    credential_expires_ms=st.none() | st.integers(1, 2**45),
    quota=st.none() | st.builds(Quota, st.integers(0), st.integers(0), st.none() | st.integers(0, 2**45)),
    action=st.none() | text.filter(bool),
)
records = st.builds(
    Record,
    revision=st.integers(1, 2**31),
    fence=st.integers(1, 2**53),
    kind=st.just(Kind.CHECKED),
    status=st.sampled_from(Status),
    reason=st.sampled_from(Reason),
    fault=st.sampled_from(Fault),
    since_ms=st.integers(0, 2**45),
    fresh_until_ms=st.integers(0, 2**45),
    consecutive=st.integers(0, 1000),
    failures=st.integers(0, 1000),
    successes=st.integers(0, 1000),
    authenticated_ms=st.integers(0, 2**45),
    verdict=verdicts,
    raw=st.none() | verdicts,
)


@given(records)
def test_what_is_written_is_what_is_read(record: Record) -> None:
    assert decode(encode(record)) == record


@pytest.mark.parametrize("kind", [Kind.WAITING, Kind.GONE])
def test_waiting_and_gone_records_are_read_back(kind: Kind) -> None:
    assert decode(encode(Record(2, 9, kind))) == Record(2, 9, kind)


@given(records)
def test_the_wire_form_begins_with_what_the_scripts_compare(record: Record) -> None:
    assert encode(record).startswith(record.head.encode() + b",")


def test_a_typical_record_is_small() -> None:
    typical = replace(OK, steps=(HealthCheck("api", StepStatus.PASS, 40.1), HealthCheck("auth", StepStatus.PASS, 0.1)))
    assert len(encode(replace(RECORD, verdict=typical))) < 300


@given(records, st.integers(0, 2**46))
def test_nothing_is_healthy_past_its_time(record: Record, now: int) -> None:
    status = seen(PAIR, record, now)
    if now >= record.fresh_until_ms:
        assert status.status is Status.UNKNOWN
        assert not status.healthy


def test_a_check_of_the_future_is_not_believed() -> None:
    """Redis' clock was set back: the verdict would stay fresh for as long as it was set back by."""
    status = seen(PAIR, replace(RECORD, verdict=replace(OK, checked_ms=1_000 + 3_600_000), fresh_until_ms=10**9), 1_500)
    assert (status.status, status.reason) == (Status.UNKNOWN, Reason.STALE)


def test_what_another_version_wrote_reads_as_not_checked_and_can_be_written_over() -> None:
    record = decode(b'{"rv":3,"fe":7,"k":"c","r":"a_reason_of_tomorrow"}')
    assert (record.revision, record.fence, record.kind) == (3, 7, Kind.WAITING)
    assert encode(RECORD).startswith(record.head.encode())


def test_a_fresh_verdict_is_believed() -> None:
    status = seen(PAIR, RECORD, 1_999)
    assert (status.status, status.reason, status.stale) == (Status.HEALTHY, Reason.OK, False)
    assert status.age == pytest.approx(0.999)


def test_a_stale_verdict_says_what_was_last_known() -> None:
    status = seen(PAIR, RECORD, 2_000)
    assert (status.reason, status.stale, status.last_known) == (Reason.STALE, True, Status.HEALTHY)
    assert "connectors doctor" in status.action


def test_a_stale_verdict_gives_our_own_reason_when_there_is_one() -> None:
    record = replace(RECORD, raw=Verdict(Reason.SECRET_UNAVAILABLE, Fault.PLATFORM, 1_900))
    assert seen(PAIR, record, 2_000).reason is Reason.SECRET_UNAVAILABLE


def test_a_tombstone_reads_as_not_configured() -> None:
    assert seen(PAIR, Record(2, 9, Kind.GONE), 0).reason is Reason.NOT_CONFIGURED


def test_a_new_configuration_reads_as_not_checked() -> None:
    assert seen(PAIR, Record(2, 9, Kind.WAITING), 0).reason is Reason.NOT_CHECKED


def test_every_reason_has_a_row_and_every_bad_one_an_action() -> None:
    assert set(REASONS) == set(Reason)
    assert [reason for reason, row in REASONS.items() if not row.action] == [Reason.OK]


def test_the_public_form_has_rfc_3339_times() -> None:
    public = seen(PAIR, RECORD, 1_500).as_dict()
    assert public["timestamp"] == "1970-01-01T00:00:01.000Z"
    assert public["fresh_until"] == "1970-01-01T00:00:02.000Z"
    assert public["healthy"] is True


@pytest.mark.parametrize("reason", [Reason.MISCONFIGURED, Reason.RATE_LIMITED])
def test_our_own_fault_is_not_told_as_the_tenants_by_one_check_alone(reason: Reason) -> None:
    verdict = Verdict(reason, Fault.PLATFORM, 1_000)
    assert seen_alone(Pair("github", "acme"), verdict, 1_000).status is Status.UNKNOWN
