from typing import cast

import pytest

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.ids import Pair
from registry.pace import spread
from registry.schedule import Entry
from registry.settings import Settings
from tests.fixtures_redis import RedisServer
from tests.plugin import Plugin
from tests.test_schedule import CONFIG
from worker.batch import Batch
from worker.dispatch import TICK_MOST, _bounded, dispatch
from worker.flight import Cost, Flight, landed, look, room
from worker.snapshot import platform_snapshot

MINUTE = 60_000


@pytest.fixture(autouse=True)
def plugin(parts: Parts) -> None:
    parts.catalog.register("plugin", Plugin)


def key(shard: int) -> str:
    return keys.due(shard, "plugin")


async def enter(parts: Parts, many: int, *, due_ms: int = 0) -> list[Pair]:
    pairs = [Pair("plugin", f"t{n}") for n in range(many)]
    await parts.schedule.put_many([Entry(pair, 1, CONFIG, reset=False, due_ms=due_ms) for pair in pairs])
    return pairs


async def tick(parts: Parts) -> list[Batch]:
    sent: list[Batch] = []
    await dispatch(parts, sent.append)
    return sent


async def live(parts: Parts, children: int = 1) -> None:
    now = parts.clock.now_ms()
    await parts.redis.zadd(keys.CHILDREN, {f"host:{n}": now for n in range(children)})


async def land(parts: Parts, batch: Batch, seconds: float) -> None:
    async with parts.redis.pipeline() as pipe:
        landed(pipe, batch, seconds, parts.clock.now_ms())
        await pipe.execute()


async def turns(parts: Parts) -> list[int]:
    """When the pairs are due, in milliseconds from now."""
    now, found = parts.clock.now_ms(), list[int]()
    for shard in range(parts.settings.shards):
        rows = cast("list[tuple[bytes, float]]", await parts.redis.zrange(key(shard), 0, -1, withscores=True))
        found += [int(score) - now for _, score in rows]
    return sorted(found)


async def fact(parts: Parts, name: str) -> int:
    return int(await parts.redis.hget(keys.PLATFORM, name) or 0)


async def test_what_was_never_measured_is_taken_for_as_slow_as_can_be(parts: Parts) -> None:
    await enter(parts, 2_000)
    batches = await tick(parts)
    pairs = sum(len(list(batch.pairs())) for batch in batches)
    most = parts.settings.in_flight_seconds / 2 / parts.settings.batch_patience * parts.settings.batch_size
    assert most <= pairs <= most + parts.settings.shards


async def test_more_is_sent_once_the_workers_are_seen_to_be_fast(parts: Parts) -> None:
    await enter(parts, 2_000)
    for batch in await tick(parts):
        await land(parts, batch, 0.05)
    assert await fact(parts, "claimed") < 1_000
    await tick(parts)
    assert await fact(parts, "claimed") == 2_000, "all the rest"
    assert (await look(parts)).costs["plugin"].batch == pytest.approx(0.05, rel=0.1)


async def test_what_finds_no_room_stays_due_and_is_told(parts: Parts) -> None:
    await enter(parts, 2_000)
    await tick(parts)
    assert await tick(parts) == [], "half of all work is in flight already"
    claimed, held_back = await fact(parts, "claimed"), await fact(parts, "held_back")
    assert held_back == 2 * (2_000 - claimed)
    assert sum((await parts.schedule.due(["plugin"]))["plugin"]) == 2_000 - claimed
    snapshot = await platform_snapshot(parts)
    assert 0 < snapshot.work["plugin"] <= snapshot.work_limit


def costs(**pairs: float) -> dict[str, Cost]:
    return {name: Cost(seconds * 100, seconds) for name, seconds in pairs.items()}


async def test_a_broker_that_takes_nothing_leaves_nothing_in_flight(parts: Parts) -> None:
    await enter(parts, 2_000)

    def refuse(_batch: Batch) -> None:
        raise ConnectionError("the broker is full")

    with pytest.raises(ConnectionError):
        await dispatch(parts, refuse)
    assert (await look(parts)).batches["plugin"] == 0
    assert await tick(parts), "all is well again, and nobody waits for a lease to end"


async def test_batches_of_a_time_that_was_taken_back_hold_nothing_up(parts: Parts) -> None:
    """They were lost, and Redis' clock was set back by an hour: by their time they would fly for as long."""
    await enter(parts, 2_000)
    lost = {f"lost-{n}": parts.clock.now_ms() + 3_600_000 for n in range(1_000)}
    await parts.redis.zadd(keys.batches("plugin"), lost)
    assert await tick(parts)
    assert await fact(parts, "batches_lost") == 1_000


def test_work_is_shared_out_by_what_it_takes_and_nobody_gets_more_than_half() -> None:
    hanging = Flight(1, {"slow": 0, "fast": 0}, costs(slow=0.01, fast=0.001))
    assert room(hanging, {"slow": 10_000, "fast": 400}, 4.0) == {"slow": 200, "fast": 400}
    full = Flight(1, {"slow": 2, "fast": 0}, costs(slow=0.01, fast=0.001))
    assert room(full, {"slow": 10_000, "fast": 400}, 4.0) == {"slow": 0, "fast": 400}
    assert room(full, {"slow": 0, "fast": 10_000}, 4.0) == {"slow": 0, "fast": 2_000}
    over = Flight(1, {"slow": 4, "fast": 9}, costs(slow=0.01, fast=0.001))
    assert room(over, {"slow": 10, "fast": 10}, 4.0) == {"slow": 0, "fast": 0}


def test_everybody_gets_some_when_there_is_not_enough_for_all() -> None:
    names = ("a", "b", "c", "d")
    flight = Flight(1, dict.fromkeys(names, 0), costs(a=0.01, b=0.01, c=0.01, d=0.01))
    assert room(flight, dict.fromkeys(names, 1_000), 4.0) == dict.fromkeys(names, 100)
    assert room(flight, dict.fromkeys(names, 0), 4.0) == dict.fromkeys(names, 0)


def test_a_bounded_tick_leaves_no_connector_out() -> None:
    assert _bounded({"github": 10 * TICK_MOST, "slack": 1})["slack"] == 1


async def test_a_check_process_of_the_future_is_none(parts: Parts) -> None:
    """Redis' clock was set back since its last sign of life."""
    await live(parts)
    await parts.redis.zadd(keys.CHILDREN, {"host:dead": parts.clock.now_ms() + 3_600_000})
    assert (await look(parts)).children == 1


async def test_one_tick_is_bounded_whatever_is_due(settings: Settings) -> None:
    parts = assemble(settings.model_copy(update={"in_flight_seconds": 10_000.0}))
    parts.catalog.register("plugin", Plugin)
    pairs = [Pair("plugin", f"t{n}") for n in range(TICK_MOST + 2_000)]
    async with parts.redis.pipeline() as pipe:
        for pair in pairs:
            pipe.zadd(key(parts.schedule.shard(pair)), {pair.tenant: 1})
        await pipe.execute()
    claimed = sum(len(list(batch.pairs())) for batch in await tick(parts))
    assert TICK_MOST <= claimed <= TICK_MOST + parts.settings.shards
    await parts.aclose()


def many(batches: list[Batch]) -> int:
    """How many pairs they hold."""
    return sum(1 for batch in batches for _ in batch.pairs())


async def test_after_a_stop_what_is_late_is_spread_over_as_long_as_it_lasted(parts: Parts) -> None:
    await enter(parts, 1_000)
    now = parts.clock.now_ms()
    await live(parts)
    await parts.redis.hset(keys.PLATFORM, "working_ms", str(now - 30_000))
    assert many(await tick(parts)) < 200  # those whose new turn came while the tick was at it
    ahead = [at for at in await turns(parts) if at <= 30_000]
    assert len(ahead) > 800
    assert ahead[0] >= -1_000
    assert ahead[-1] > 28_000
    assert all(100 <= sum(low <= at < low + 6_000 for at in ahead) <= 250 for low in range(0, 30_000, 6_000))


async def test_a_long_stop_is_caught_up_within_one_interval(parts: Parts) -> None:
    await enter(parts, 500, due_ms=parts.clock.now_ms() - 10 * MINUTE)
    await live(parts)
    await parts.redis.hset(keys.PLATFORM, "working_ms", str(parts.clock.now_ms() - 10 * MINUTE))
    await tick(parts)
    ahead = await turns(parts)
    assert len(ahead) == 500, "each pair has one turn, however many it missed"
    assert 50_000 < ahead[-1] <= MINUTE


async def test_a_stop_of_all_workers_is_a_stop_too(parts: Parts) -> None:
    await live(parts)
    await tick(parts)
    now = parts.clock.now_ms()
    await parts.redis.delete(keys.CHILDREN)
    await parts.redis.hset(keys.PLATFORM, "working_ms", str(now - MINUTE))
    await tick(parts)
    assert await fact(parts, "working_ms") == now - MINUTE, "a tick that finds no workers is no sign of work"
    await enter(parts, 300)
    await live(parts)
    assert many(await tick(parts)) < 100
    assert (await turns(parts))[-1] > 50_000


async def test_a_short_stop_delays_nothing(parts: Parts) -> None:
    await enter(parts, 100)
    await live(parts)
    await parts.redis.hset(keys.PLATFORM, "working_ms", str(parts.clock.now_ms() - 5_000))
    assert sum(len(list(batch.pairs())) for batch in await tick(parts)) == 100


async def test_turns_missed_are_made_up_for_by_one_check_and_counted(parts: Parts) -> None:
    await enter(parts, 40, due_ms=parts.clock.now_ms() - 5 * MINUTE)
    assert sum(len(list(batch.pairs())) for batch in await tick(parts)) == 40
    assert await fact(parts, "coalesced") == 40
    assert await tick(parts) == []


async def test_what_is_late_within_its_own_interval_has_missed_no_turn(parts: Parts) -> None:
    patient, due_ms = CONFIG.model_copy(update={"interval": 3_600.0}), parts.clock.now_ms() - 5 * MINUTE
    pairs = [(Pair("plugin", f"t{n}"), patient if n < 3 else CONFIG) for n in range(5)]
    await parts.schedule.put_many([Entry(pair, 1, config, reset=False, due_ms=due_ms) for pair, config in pairs])
    assert sum(len(list(batch.pairs())) for batch in await tick(parts)) == 5
    assert await fact(parts, "coalesced") == 2


async def test_an_emptied_redis_is_filled_without_a_burst(parts: Parts, redis_server: RedisServer) -> None:
    pairs = [Pair("plugin", f"t{n}") for n in range(600)]
    await parts.store.set_many([(pair, CONFIG) for pair in pairs], actor="test")
    await parts.reconciler.run()
    with redis_server.client() as client:
        client.flushall()
    await parts.reconciler.run()
    ahead = await turns(parts)
    assert len(ahead) == 601, "and the service check"
    assert all(70 <= sum(low <= at < low + 10_000 for at in ahead) <= 130 for low in range(0, MINUTE, 10_000))


def test_the_load_of_a_minute_is_flat() -> None:
    counts = [0] * 60
    for n in range(60_000):
        counts[int(spread(Pair("github", f"acme-customer-{n:06}")) * 60)] += 1
    assert min(counts) > 880
    assert max(counts) < 1_120, "a thousand a second, give or take what chance makes"
