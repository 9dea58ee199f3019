"""Following server timestamps: nothing is missed, and every sweep ends."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from registry.stores.sweep import Position, Sweep

OVERLAP = 5


def position(number: int) -> Position:
    return f"2026-01-01T00:00:00.{number:06}+00:00", f"root/t{number}/connectors/c"


def read(visible: list[int], sweep: Sweep, now: int, limit: int) -> tuple[list[int], Sweep, bool]:
    """What a server would answer at `now`: positions stand for their numbers."""
    start = sweep.start
    found = [number for number in sorted(visible) if start is None or position(number) > start][:limit]
    settled = sum(number <= now - OVERLAP for number in found)
    more = len(found) == limit
    return found, sweep.advanced([position(number) for number in found], settled=settled, more=more), more


@given(
    late=st.lists(st.integers(0, OVERLAP - 1), min_size=1, max_size=40),
    limit=st.integers(1, 5),
    polls=st.sets(st.integers(0, 60)),
)
def test_a_change_that_becomes_visible_late_is_never_missed(late: list[int], limit: int, polls: set[int]) -> None:
    visible_at = {stamp: stamp + delay for stamp, delay in enumerate(late)}
    sweep, seen = Sweep(), set[int]()
    for now in [*sorted(polls), 100, 101]:
        visible = [stamp for stamp, since in visible_at.items() if since <= now]
        more = True
        while more:
            found, sweep, more = read(visible, Sweep.loaded(sweep.dumped()), now, limit)
            seen.update(found)
    assert seen == set(visible_at)
    assert read(list(visible_at), sweep, 102, limit)[0] == []


@given(
    late=st.lists(st.integers(0, OVERLAP - 1), min_size=1, max_size=40),
    limit=st.integers(1, 5),
    pauses=st.lists(st.integers(1, 10), min_size=1),
)
@example(late=[4, 0, 0], limit=1, pauses=[1, 10])
def test_one_page_at_a_time_beside_a_steady_writer_misses_nothing(
    late: list[int], limit: int, pauses: list[int]
) -> None:
    visible_at = {stamp: stamp + delay for stamp, delay in enumerate(late)}
    sweep, seen, now = Sweep(), set[int](), 0
    for pause in [*pauses, *[1] * 100]:
        now += pause
        found, sweep, _ = read([stamp for stamp, since in visible_at.items() if since <= now], sweep, now, limit)
        seen.update(found)
    assert seen == set(visible_at)
