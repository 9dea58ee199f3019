"""What a batch asks of its servers, counted on the wire to Redis and at the configuration store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.cache import PAIRS
from registry.health import Fault, Reason, Verdict
from registry.ids import Pair
from registry.recording import Outcome
from registry.settings import Settings
from tests.fixtures_wire import Wire
from tests.plugin import Plugin, plugin_config
from worker.batch import Batch, batched
from worker.incidents import detect
from worker.monitor import Monitor

TENANTS = [f"t{number}" for number in range(40)]


@pytest.fixture
async def parts(settings: Settings, wire: Wire, tmp_path: Path) -> AsyncIterator[Parts]:
    assembled = assemble(settings.model_copy(update={"redis_url": f"unix://{tmp_path / 'wire.sock'}?db=1"}))
    assembled.catalog.register("plugin", Plugin)
    yield assembled
    await assembled.aclose()


@pytest.fixture
async def batch(parts: Parts) -> Batch:
    """A batch of pairs in every shard, each of which was checked before."""
    for tenant in TENANTS:
        await parts.configurations.set(Pair("plugin", tenant), plugin_config(), actor="test")
    await Monitor(parts).check_batch(await claimed(parts))
    for tenant in TENANTS:
        await parts.redis.zadd(keys.due(parts.schedule.shard(Pair("plugin", tenant)), "plugin"), {tenant: 1})
    return await claimed(parts)


async def claimed(parts: Parts) -> Batch:
    (batch,) = batched(await parts.schedule.claim({"plugin": 100}), 100)
    assert len(list(batch.pairs())) == len(TENANTS)
    return batch


async def test_a_batch_is_one_round_trip_to_read_and_one_to_write(parts: Parts, wire: Wire, batch: Batch) -> None:
    before = wire.turns
    await Monitor(parts).check_batch(batch)
    assert wire.turns - before == 2
    assert all(status.healthy for status in [await parts.cache.status(pair) for pair in batch.pairs()])


async def test_a_redis_that_has_forgotten_the_scripts_is_told_them_and_nothing_is_counted_twice(
    parts: Parts, batch: Batch
) -> None:
    before = await checks(parts)
    await parts.redis.script_flush()
    await Monitor(parts).check_batch(batch)
    assert await checks(parts) - before == len(TENANTS)


async def checks(parts: Parts) -> int:
    """How many checks are counted."""
    shards = range(parts.settings.shards)
    return sum([int(await parts.redis.hget(keys.counters(shard), "checks|plugin|ok") or 0) for shard in shards])


async def test_a_steady_batch_asks_the_configuration_store_for_nothing(parts: Parts, batch: Batch) -> None:
    for pair in batch.pairs():
        await parts.store.delete_config(pair, actor="test")  # behind everybody's back: who asked would know
    await Monitor(parts).check_batch(batch)
    assert all(status.healthy for status in [await parts.cache.status(pair) for pair in batch.pairs()])


async def test_looking_for_incidents_reads_the_service_checks_together(parts: Parts, wire: Wire) -> None:
    """However many places tenants brought along, in a bounded number of questions; the last of them counts, too."""
    places, down = [f"gitlab https://h{number}.example" for number in range(3 * PAIRS)], "https://down.example"
    await parts.redis.hset(keys.ENDPOINTS, mapping=dict.fromkeys((*places, f"gitlab {down}"), 1))
    await detect(parts)
    checks = await parts.endpoints.service_checks()
    (pair,) = (pair for pair, place in checks.items() if place.base_url == down)
    await parts.schedule.put(pair, 1, None, base_url=down, reset=True)
    task = await parts.schedule.task(pair)
    assert task is not None
    verdict = Verdict(Reason.VENDOR_ERROR, Fault.VENDOR, parts.clock.now_ms())
    await parts.recorder.record([Outcome(task, verdict, "gitlab|down.example")])
    before = wire.turns
    assert [incident.endpoint for incident in await detect(parts)] == ["gitlab|down.example"]
    many = wire.turns - before
    await parts.redis.hdel(keys.ENDPOINTS, *places)
    before = wire.turns
    await detect(parts)
    assert many - (wire.turns - before) == 3
