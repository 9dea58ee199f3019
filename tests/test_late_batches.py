"""Batches that waited too long, and processes that stood still: they give back what they hold, and nothing else.

Time passes by moving everything that is compared with now further into the past.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.ids import Pair
from registry.pace import spread
from registry.schedule import Claim
from registry.settings import Settings
from tests.plugin import Plugin, plugin_config
from tests.test_dispatch import enter, key, land, live, many, tick, turns
from worker.batch import Batch, BatchMessage
from worker.lags import recent
from worker.monitor import Monitor

MINUTE = 60_000


@pytest.fixture(autouse=True)
def plugin(parts: Parts) -> None:
    Plugin.made.clear()
    Plugin.started = asyncio.Event()
    parts.catalog.register("plugin", Plugin)


async def configure(parts: Parts, many: int, **behaviour: bool) -> list[Pair]:
    pairs = [Pair("plugin", f"t{n}") for n in range(many)]
    for pair in pairs:
        await parts.configurations.set(pair, plugin_config(**behaviour), actor="test")
    return pairs


async def later(parts: Parts, seconds: float, queue: Sequence[Batch] = ()) -> list[Batch]:
    """So much time passes, also for the batches in the queue."""
    ms = int(seconds * 1000)
    for name in (*map(key, range(parts.settings.shards)), keys.batches("plugin"), keys.CHILDREN):
        rows = cast("list[tuple[bytes, float]]", await parts.redis.zrange(name, 0, -1, withscores=True))
        if rows:
            await parts.redis.zadd(name, {member: score - ms for member, score in rows})
    for fact in ("working_ms", "dispatch_ms"):
        if await parts.redis.hexists(keys.PLATFORM, fact):
            await parts.redis.hincrby(keys.PLATFORM, fact, -ms)
    return [Batch.read(_aged(batch.message(), ms)) for batch in queue]


def _aged(message: BatchMessage, ms: int) -> BatchMessage:
    aged = message.copy()
    aged["claims"] = [(shard, fence - ms * 1000, tenants) for shard, fence, tenants in message["claims"]]
    if "ends" in message:
        aged["ends"] = [end - ms for end in message["ends"]]
    return aged


async def consume(monitor: Monitor, queue: Sequence[Batch]) -> None:
    for batch in queue:
        await monitor.check_batch(batch)


async def test_an_expired_batch_takes_nothing_from_who_claimed_its_pairs_since(parts: Parts) -> None:
    pairs = await configure(parts, 56)
    old = await later(parts, 61, await tick(parts))
    new = await tick(parts)
    assert many(new) == many(old) == 56
    await consume(Monitor(parts), old)
    assert await tick(parts) == [], "they are all held"
    await consume(Monitor(parts), new)
    assert all([(await parts.cache.status(pair)).healthy for pair in pairs])


async def test_what_an_expired_batch_holds_still_comes_back_over_twice_as_long_as_it_waited(parts: Parts) -> None:
    await enter(parts, 200)
    old = await later(parts, 40, await tick(parts))
    assert many(old) == 200
    await consume(Monitor(parts), old)
    ahead = await turns(parts)
    assert ahead[0] >= -1_000
    assert 55_000 < ahead[-1] <= MINUTE, "at most an interval"
    assert all(30 <= sum(low <= at < low + 15_000 for at in ahead) <= 70 for low in range(0, MINUTE, 15_000))


async def test_a_message_of_before_its_leases_were_told_is_handed_back_too(parts: Parts) -> None:
    await enter(parts, 30)
    (batch,) = await later(parts, 40, await tick(parts))
    message = batch.message()
    del message["ends"]
    await consume(Monitor(parts), [Batch.read(message)])
    ahead = await turns(parts)
    assert ahead[0] < 15_000
    assert 30_000 < ahead[-1] <= MINUTE


async def test_a_pair_that_backs_off_since_is_not_handed_back(parts: Parts) -> None:
    await enter(parts, 1)
    (old,) = await later(parts, 40, await tick(parts))
    await parts.redis.zadd(key(parts.schedule.shard(Pair("plugin", "t0"))), {"t0": parts.clock.now_ms() + 10 * MINUTE})
    await consume(Monitor(parts), [old])
    assert (await turns(parts))[0] > 9 * MINUTE


async def stood_still(parts: Parts) -> list[Batch]:
    """The leases end while whoever checks stands still, and another dispatcher claims the pairs."""
    for shard in range(parts.settings.shards):
        tenants = cast("list[bytes]", await parts.redis.zrange(key(shard), 0, -1))
        if tenants:
            await parts.redis.zadd(key(shard), dict.fromkeys(tenants, 1))
    return await tick(parts)


async def test_who_is_ended_after_its_lease_leaves_the_pairs_to_who_holds_them(parts: Parts) -> None:
    await configure(parts, 6, hang=True)
    (batch,) = await tick(parts)
    running = asyncio.create_task(Monitor(parts).check_batch(batch))
    await Plugin.started.wait()
    assert many(await stood_still(parts)) == 6
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await tick(parts) == []


async def test_what_found_no_place_before_its_lease_ended_is_left_to_who_holds_it(settings: Settings) -> None:
    changed = {"host_concurrency": 2, "batch_patience": 0.5, "check_timeout": 1.0, "confirm_delay": 0.001}
    parts = assemble(settings.model_copy(update=changed))
    parts.catalog.register("plugin", Plugin)
    await configure(parts, 6, hang=True)
    (batch,) = await tick(parts)
    monitor = Monitor(parts)
    running = asyncio.create_task(monitor.check_batch(batch))
    await Plugin.started.wait()
    assert many(await stood_still(parts)) == 6
    await running
    assert await parts.redis.hget(keys.PLATFORM, "released") == b"4"
    assert await tick(parts) == []
    await monitor.drain()
    await parts.aclose()


async def test_a_pair_that_is_put_off_after_its_lease_is_left_to_who_holds_it(settings: Settings) -> None:
    parts = assemble(settings.model_copy(update={"vendor_budgets": {"plugin": 1}}))
    parts.catalog.register("plugin", Plugin)
    await configure(parts, 3)
    (batch,) = await tick(parts)
    assert many(await stood_still(parts)) == 3
    held = await turns(parts)
    await Monitor(parts).check_batch(batch)
    assert int(await parts.redis.hget(keys.PLATFORM, "put_off") or 0) == 3
    assert (await recent(parts.redis, parts.clock.now_ms(), 2))["put_off"] == 3
    assert [abs(was - now) < 5_000 for was, now in zip(held, await turns(parts), strict=True)] == [True] * 3
    await parts.aclose()


async def test_after_a_stop_with_a_full_queue_no_vendor_sees_more_than_twice_the_usual(parts: Parts) -> None:
    """600 pairs, ten a second. Workers stop for 55 s; what was sent to them has waited for more than 30 s by then."""
    pairs, now = await configure(parts, 600), parts.clock.now_ms()
    for pair in pairs:
        await parts.redis.zadd(key(parts.schedule.shard(pair)), {pair.tenant: now + int(spread(pair) * MINUTE)})
    await live(parts)
    await land(parts, Batch("measured", "plugin", (Claim("plugin", 0, 1, tuple("abcdefghij")),)), 0.1)
    queue: list[Batch] = []
    for _ in range(55):
        queue = await later(parts, 1, queue) + await tick(parts)
    assert many(queue) > 200, "they were sent to nobody"

    checked, monitor = list[int](), Monitor(parts)
    for second in range(63):
        await live(parts)
        if second == 0:
            queue += await tick(parts)
            await consume(monitor, queue)
        sent = await tick(parts)
        await consume(monitor, sent)
        checked.append(many(sent))
        await later(parts, 1)
    assert max(sum(checked[at : at + 10]) for at in range(20)) <= 200, "until the first of them have another turn"
    assert all([(await parts.cache.status(pair)).healthy for pair in pairs])
