"""What is told of a pair, step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.health import REASONS, Fault, HealthStatus, Reason, Status
from worker.events.message import MessageType
from worker.events.telling import IDLE, MUTED_MS, POLL_MS, WELL, Rules, Telling, Told, Turn, public, settled, turned

RULES = Rules(flaps=4, window_ms=60_000, quiet_ms=30_000, vendor_ms=10_000)
OK, SLOW, REJECTED, BROKEN = Reason.OK, Reason.SLOW, Reason.CREDENTIAL_REJECTED, Reason.VENDOR_ERROR


def turn(reason: Reason, at_ms: int = 0) -> Turn:
    row = REASONS[reason]
    return Turn(f"s0-{at_ms}-0", "github", "acme", row.status, reason, row.fault, at_ms)


def verdict(reason: Reason, *, consecutive: int = 1, fault: Fault | None = None) -> HealthStatus:
    row = REASONS[reason]
    return HealthStatus("github", "acme", row.status, reason, fault or row.fault, 0, consecutive=consecutive)


def told(news: list[Told]) -> list[tuple[MessageType, Reason]]:
    return [(kind, what.reason) for kind, what, _ in news]


def after(*reasons: Reason) -> tuple[Telling, list[tuple[MessageType, Reason]]]:
    state, everything = IDLE, list[tuple[MessageType, Reason]]()
    for at, reason in enumerate(reasons):
        state, news = turned(state, turn(reason, at * 100), RULES)
        everything += told(news)
    return state, everything


def test_that_all_is_well_is_no_news() -> None:
    assert after(OK) == (Telling(turned_ms=(0,)), [])


def test_what_works_but_needs_somebody_is_told_at_once_and_its_end_too() -> None:
    _, news = after(SLOW, OK)
    assert news == [(MessageType.TRANSITION, SLOW), (MessageType.TRANSITION, OK)]


def test_a_changed_configuration_is_told_of_by_its_first_check_only() -> None:
    _, news = after(SLOW, Reason.NOT_CHECKED, SLOW)
    assert news == [(MessageType.TRANSITION, SLOW)]


def test_a_rejected_credential_waits_for_its_second_check() -> None:
    state, news = after(REJECTED)
    assert news == []
    state, waiting = settled(state, verdict(REJECTED), 50_000, RULES)
    assert waiting == []
    state, confirmed = settled(state, verdict(REJECTED, consecutive=2), 50_000, RULES)
    assert told(confirmed) == [(MessageType.TRANSITION, REJECTED)]
    assert settled(state, verdict(REJECTED, consecutive=3), 50_000, RULES)[1] == []


def test_moments_that_lie_ahead_are_of_a_clock_that_was_set_back() -> None:
    state, _ = turned(IDLE, turn(BROKEN, 3_600_000), RULES)
    assert told(settled(state, verdict(BROKEN, consecutive=2), 1_000, RULES)[1]) == [(MessageType.TRANSITION, BROKEN)]
    flapping = Telling(flapping=True, turned_ms=(3_600_000,), waiting=turn(OK, 3_600_000))
    assert told(settled(flapping, verdict(OK), 1_000, RULES)[1]) == [(MessageType.SETTLED, OK)]


LATE = 10**9
STATES = [
    Telling(turned_ms=(1,)),
    Telling(waiting=turn(REJECTED, 1)),
    Telling(flapping=True, turned_ms=(1,), waiting=turn(OK, 1)),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("muted", [False, True])
def test_whoever_was_looked_at_comes_back_later_and_holds_nobody_else_up(state: Telling, muted: bool) -> None:
    state, _ = settled(state, None, LATE, RULES, muted=muted)
    assert (state.look_ms(LATE, RULES, LATE + 3_600_000 if muted else 0) or LATE + POLL_MS) >= LATE + POLL_MS


@pytest.mark.parametrize("state", STATES[1:])
def test_a_pair_in_maintenance_is_looked_at_when_that_ends_and_now_and_then(state: Telling) -> None:
    assert state.look_ms(LATE, RULES, LATE + 20_000) == LATE + 20_000
    assert state.look_ms(LATE, RULES, LATE + 3_600_000) == LATE + MUTED_MS
    assert RULES.longest_ms >= MUTED_MS, "it is not taken for one of a clock that was set back"


def test_that_a_pair_turned_is_forgotten_in_maintenance_too() -> None:
    assert settled(Telling(turned_ms=(1,)), None, LATE, RULES, muted=True) == (IDLE, [])


def test_a_rejection_that_is_not_confirmed_was_never_told() -> None:
    assert after(REJECTED, OK)[1] == []


def test_a_vendors_failure_waits_for_the_incident_that_may_explain_it() -> None:
    state, news = after(BROKEN)
    assert news == []
    assert settled(state, verdict(BROKEN), 9_999, RULES)[1] == []
    assert told(settled(state, verdict(BROKEN), 10_000, RULES)[1]) == [(MessageType.TRANSITION, BROKEN)]


def test_a_rejection_that_is_found_to_be_the_vendors_is_told_as_such() -> None:
    state, _ = after(REJECTED)
    _, news = settled(state, verdict(REJECTED, fault=Fault.VENDOR), 10_000, RULES)
    assert [what.fault for _, what, _ in news] == [Fault.VENDOR]


def test_a_pair_that_turns_again_and_again_is_told_of_once_and_when_it_has_settled() -> None:
    state, news = after(SLOW, OK, SLOW, OK, SLOW, OK)
    assert news[-1] == (MessageType.FLAPPING, OK)
    assert len(news) == 4
    assert settled(state, verdict(OK), 500 + RULES.quiet_ms - 1, RULES)[1] == []
    calm, end = settled(state, verdict(OK), 500 + RULES.quiet_ms, RULES)
    assert told(end) == [(MessageType.SETTLED, OK)]
    assert calm == IDLE


def test_a_pair_that_is_gone_is_forgotten_and_told_of_only_if_something_was() -> None:
    assert after(SLOW, Reason.NOT_CONFIGURED) == (
        IDLE,
        [(MessageType.TRANSITION, SLOW), (MessageType.TRANSITION, Reason.NOT_CONFIGURED)],
    )
    assert after(OK, Reason.NOT_CONFIGURED) == (IDLE, [])


def test_a_message_says_what_was_told_before_it_and_what_to_do() -> None:
    told_now = public(turn(OK), (Status.DEGRADED, SLOW), None)
    assert (told_now["from"], told_now["to"]) == (
        {"status": "degraded", "reason": "slow"},
        {"status": "healthy", "reason": "ok"},
    )
    assert public(turn(SLOW), None, None)["from"] == {"status": "healthy", "reason": "ok"}


@given(st.lists(st.tuples(st.sampled_from([OK, SLOW, REJECTED, BROKEN]), st.integers(1, 40_000)), max_size=30))
def test_when_a_pair_has_been_still_the_last_word_is_what_it_is(story: list[tuple[Reason, int]]) -> None:
    """Whatever happened: receivers that believe the last message about a pair are right in the end."""
    state, now, last, current = IDLE, 0, WELL, OK
    for reason, passed in story:
        now += passed
        if reason is not current:
            current = reason
            state, news = turned(state, turn(reason, now), RULES)
            last = _word(news, last)
        state, news = settled(state, verdict(current, consecutive=2), now, RULES)
        last = _word(news, last)
    while (look := state.look_ms(now, RULES)) is not None:
        now = max(now, look)
        state, news = settled(state, verdict(current, consecutive=2), now, RULES)
        last = _word(news, last)
    assert last == (REASONS[current].status, current)
    assert state.idle == (current is OK)


def _word(news: list[Told], last: tuple[Status, Reason]) -> tuple[Status, Reason]:
    for _, what, _ in news:
        last = (what.status, what.reason)
    return last
