"""A circuit opens after failures in a row, lets one question through at a time, and closes at the first answer."""

import pytest

from registry import circuit
from registry.circuit import FAILURES, PAUSE, Circuit, CircuitOpen


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    moved = Hand()
    monkeypatch.setattr(circuit, "steady", moved)
    return moved


def fail(tried: Circuit, hand: Hand, times: int = FAILURES) -> None:
    for _ in range(times):
        began = tried.admit()
        hand.now += 0.05
        tried.failed(began)


def test_failures_in_a_row_open_it(hand: Hand) -> None:
    tried = Circuit()
    fail(tried, hand, FAILURES - 1)
    assert not tried.is_open
    fail(tried, hand, 1)
    with pytest.raises(CircuitOpen):
        tried.admit()


def test_an_answer_in_between_keeps_it_closed(hand: Hand) -> None:
    tried = Circuit()
    fail(tried, hand, FAILURES - 1)
    tried.admit()
    tried.answered()
    fail(tried, hand, FAILURES - 1)
    assert not tried.is_open


def test_what_was_under_way_together_fails_once(hand: Hand) -> None:
    tried = Circuit()
    began = [tried.admit() for _ in range(100)]
    hand.now += 0.05
    for each in began:
        tried.failed(each)
    assert not tried.is_open


def test_after_a_pause_one_question_at_a_time_sees_whether_it_is_back(hand: Hand) -> None:
    tried = Circuit()
    fail(tried, hand)
    for _ in range(2):
        hand.now += PAUSE
        tried.admit()  # what becomes of it is never told: its asker was cancelled
        with pytest.raises(CircuitOpen):
            tried.admit()


def test_a_question_in_vain_begins_the_pause_anew(hand: Hand) -> None:
    tried = Circuit()
    fail(tried, hand)
    hand.now += PAUSE
    fail(tried, hand, 1)
    hand.now += PAUSE * 0.9
    with pytest.raises(CircuitOpen):
        tried.admit()


def test_the_first_answer_closes_it(hand: Hand) -> None:
    tried = Circuit()
    fail(tried, hand)
    hand.now += PAUSE
    tried.admit()
    tried.answered()
    tried.admit()
    assert not tried.is_open
