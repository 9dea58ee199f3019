"""What is done of a backlog of ticks, and what a clock of Redis that was set back leaves behind."""

from registry import keys
from registry.bootstrap import Parts
from registry.lease import Lease
from worker.ticks import begin

HOUR_MS = 3_600_000


async def test_of_a_backlog_one_tick_is_done(parts: Parts) -> None:
    tasks = ("reconcile", "reconcile", "publish", "reconcile")
    assert [await begin(parts, task) for task in tasks] == [True, False, True, False]


async def test_a_tick_is_done_when_the_last_one_is_half_its_pace_ago(parts: Parts) -> None:
    every = int(parts.settings.dispatch_every * 1000)
    await begin(parts, "dispatch")
    began = int(await parts.redis.hget(keys.TICKS, "dispatch") or 0)
    await parts.redis.hset(keys.TICKS, "dispatch", str(began - every // 2))
    assert await begin(parts, "dispatch")


async def test_a_last_tick_in_the_future_holds_nobody_up(parts: Parts) -> None:
    await begin(parts, "dispatch")
    began = int(await parts.redis.hget(keys.TICKS, "dispatch") or 0)
    await parts.redis.hset(keys.TICKS, "dispatch", str(began + HOUR_MS))
    assert await begin(parts, "dispatch")
    assert int(await parts.redis.hget(keys.TICKS, "dispatch") or 0) < began + HOUR_MS


async def test_a_lease_that_was_extended_in_the_future_binds_nobody(parts: Parts) -> None:
    fence = await Lease(parts.redis, "publisher", "the dead").hold(60)
    assert not await Lease(parts.redis, "publisher", "another").hold(60)
    seconds, _ = await parts.redis.time()
    ahead = str(seconds * 1000 + HOUR_MS)
    await parts.redis.hset(keys.lease("publisher"), mapping={"at": ahead, "until": ahead})
    assert await Lease(parts.redis, "publisher", "another").hold(60) > fence
