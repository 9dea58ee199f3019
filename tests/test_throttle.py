"""An allowance in Redis: used up by bursts, filled up by time."""

from registry.bootstrap import Parts
from registry.connection import connect
from registry.throttle import Allowance, Throttle

SLOWLY = Allowance(most=3, rate=0.001)


async def test_a_burst_is_let_through_up_to_the_allowance(parts: Parts) -> None:
    waits = [await parts.throttle.take("a", 1, SLOWLY) for _ in range(4)]
    assert waits[:3] == [0, 0, 0]
    assert 0 < waits[3] <= 1_000
    assert await parts.throttle.take("b", 1, SLOWLY) == 0, "everybody has an allowance of their own"


async def test_what_is_refused_takes_nothing(parts: Parts) -> None:
    assert await parts.throttle.take("a", 2, SLOWLY) == 0
    assert await parts.throttle.take("a", 2, SLOWLY) > 0
    assert await parts.throttle.take("a", 1, SLOWLY) == 0


async def test_time_fills_it_up(parts: Parts) -> None:
    quickly = Allowance(most=1, rate=1_000_000)
    assert [await parts.throttle.take("a", 1, quickly) for _ in range(50)] == [0] * 50


async def test_more_than_there_ever_is_costs_all(parts: Parts) -> None:
    assert await parts.throttle.take("a", 10, SLOWLY) == 0
    assert await parts.throttle.take("a", 1, SLOWLY) > 0


async def test_everybody_is_let_through_while_redis_is_away() -> None:
    redis = connect("redis://127.0.0.1:9/0", 0.2)
    assert [await Throttle(redis).take("a", 5, SLOWLY) for _ in range(3)] == [0, 0, 0]
    await redis.aclose()
