"""A page decodes of a record only what decides: it is the same, to the last property, as what a whole record says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from registry.health import Fault, HealthStatus, Reason, Verdict
from registry.record import CLOCK_SLACK_MS, Kind, Record, decode, encode, glimpsed, seen, shortened
from tests.test_record import PAIR, records

kept = st.builds(lambda record, until: replace(record, maintenance_ms=until), records, st.integers(0, 2**45))
moments = st.one_of(st.integers(0, 2**45), st.sampled_from(["checked", "fresh"]))
edges = st.sampled_from([0, -1, -CLOCK_SLACK_MS - 1, -CLOCK_SLACK_MS - 5_000])


def told(status: HealthStatus) -> tuple[object, ...]:
    decisive = (status.version, status.consecutive, status.stale, status.last_known, status.read_ms, status.checked_ms)
    return (*decisive, status.details, status.action, status.maintenance_until_ms, status.as_dict())


@given(kept, moments, edges, st.booleans())
def test_a_glimpse_says_what_the_whole_record_says(record: Record, moment: int | str, off: int, short: bool) -> None:
    if isinstance(moment, str):
        checked_ms = record.verdict.checked_ms if record.verdict else 0
        moment = max(0, off + (record.fresh_until_ms if moment == "fresh" else checked_ms))
    wire = encode(shortened(record) if short else record)
    whole = seen(PAIR, decode(wire), moment)
    glimpse = glimpsed(PAIR.connector, PAIR.tenant, wire, moment)
    assert glimpse is None or told(glimpse) == told(whole)
    assert glimpse is not None or not whole.healthy, "what is usable is always told at a glance"


@given(kept, st.integers(0, 2**45))
def test_what_has_no_verdict_is_never_told_at_a_glance(record: Record, now: int) -> None:
    for other in (
        replace(record, kind=Kind.WAITING),
        replace(record, kind=Kind.GONE),
        replace(record, verdict=None),
    ):
        assert glimpsed(PAIR.connector, PAIR.tenant, encode(other), now) is None


def test_a_check_of_the_future_is_not_told_at_a_glance() -> None:
    verdict = Verdict(Reason.OK, Fault.NONE, checked_ms=100_000)
    wire = encode(Record(1, 1, fresh_until_ms=200_000, verdict=verdict))
    first = 100_000 - CLOCK_SLACK_MS
    assert [glimpsed("github", "acme", wire, now) is None for now in (first - 1, first)] == [True, False]
