import asyncio

import pytest

from registry.deadlines import Deadlines


async def test_what_ends_in_time_is_left_alone() -> None:
    with Deadlines().within(60):
        assert await asyncio.to_thread(lambda: 1) == 1


async def test_what_takes_longer_is_ended_and_told_so() -> None:
    with pytest.raises(TimeoutError), Deadlines().within(0.001):
        await asyncio.Event().wait()


async def test_each_has_its_own_limit_whatever_the_order() -> None:
    deadlines, ended = Deadlines(), list[str]()

    async def hang(name: str, seconds: float) -> None:
        with pytest.raises(TimeoutError), deadlines.within(seconds):
            await asyncio.Event().wait()
        ended.append(name)

    await asyncio.gather(hang("later", 0.15), hang("first", 0.01), hang("last", 0.3))
    assert ended == ["first", "later", "last"]


async def test_a_limit_that_begins_anew_is_kept_too() -> None:
    deadlines = Deadlines()

    async def hang() -> None:
        with deadlines.within(0.01) as deadline:
            before = deadline.ends
            deadline.restart()
            assert deadline.ends > before
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await hang()


async def test_one_that_is_ended_by_another_hand_is_cancelled_and_not_late() -> None:
    deadlines, begun = Deadlines(), asyncio.Event()

    async def hang() -> None:
        with deadlines.within(60):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_limit_inside_another_ends_only_itself() -> None:
    deadlines = Deadlines()
    with deadlines.within(60):
        with pytest.raises(TimeoutError), deadlines.within(0.001):
            await asyncio.Event().wait()
        assert await asyncio.to_thread(lambda: 1) == 1


async def test_an_error_in_time_stays_that_error() -> None:
    with pytest.raises(KeyError), Deadlines().within(60):
        raise KeyError


async def test_the_limit_of_one_that_has_ended_does_not_end_the_next() -> None:
    deadlines = Deadlines()
    with deadlines.within(0.01):
        pass
    with deadlines.within(60), pytest.raises(TimeoutError), deadlines.within(0.03):  # the first one's time comes first
        await asyncio.Event().wait()
