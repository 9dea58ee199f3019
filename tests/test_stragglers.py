"""A batch, real vendors, and a host that takes connections and never says a word."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from registry import keys
from registry.bootstrap import Parts
from registry.health import Reason
from registry.ids import Pair
from registry.settings import Settings
from tests.fixtures_vendors import demo_config
from worker.batch import Batch
from worker.demo.vendors import DemoVendors
from worker.dispatch import dispatch
from worker.monitor import Monitor

HEALTHY, STUCK = [f"acme-{number:02d}" for number in range(1, 6)], "stuck"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A batch that waited for its straggler would wait for its end: patience is longer than a check may take."""
    return settings.model_copy(update={"batch_patience": 30.0, "check_timeout": 2.0})


@pytest.fixture
def hanging_url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
async def batch(parts: Parts, script: DemoVendors, hanging_url: str) -> Batch:
    """One batch of six pairs, of which one leads to the host that hangs."""
    config = demo_config("gitlab", script)
    for tenant in (*HEALTHY, STUCK):
        changed = {"base_url": hanging_url} if tenant == STUCK else {}
        await parts.configurations.set(Pair("gitlab", tenant), {**config, **changed}, actor="test")
    sent: list[Batch] = []
    await dispatch(parts, lambda batch: sent.append(Batch.read(batch.message())))
    (batch,) = sent
    return batch


async def reason(parts: Parts, tenant: str) -> Reason:
    return (await parts.cache.status(Pair("gitlab", tenant))).reason


async def in_flight(parts: Parts) -> int:
    return int(await parts.redis.zcard(keys.batches("gitlab")))


async def test_a_batch_ends_before_its_straggler_which_times_out_at_its_own_deadline(
    parts: Parts, batch: Batch
) -> None:
    monitor = Monitor(parts)
    await monitor.check_batch(batch)
    assert {await reason(parts, tenant) for tenant in HEALTHY} == {Reason.OK}
    assert await reason(parts, STUCK) is Reason.NOT_CHECKED
    assert (monitor.running, await in_flight(parts)) == (1, 0)
    await monitor.drain()
    status = await parts.cache.status(Pair("gitlab", STUCK))
    assert status.reason is Reason.TIMEOUT
    assert status.error == "no complete answer within 2 s"
    assert monitor.running == 0


async def test_a_straggler_that_does_not_end_before_its_process_is_handed_back(parts: Parts, batch: Batch) -> None:
    hasty = parts.settings.model_copy(update={"check_timeout": 0.01})  # so long a process that ends waits
    monitor = Monitor(replace(parts, settings=hasty))
    await monitor.check_batch(batch)
    await monitor.drain()
    assert await reason(parts, STUCK) is Reason.NOT_CHECKED
    due = await parts.redis.zscore(keys.due(parts.schedule.shard(Pair("gitlab", STUCK)), "gitlab"), STUCK)
    assert due is not None
    assert due <= parts.clock.now_ms()


async def test_a_batch_costs_what_it_held_its_worker_and_not_what_its_straggler_takes(
    parts: Parts, batch: Batch
) -> None:
    monitor = Monitor(parts)
    await monitor.check_batch(batch)
    kept = [key async for key in parts.redis.scan_iter(keys.work(0).replace("0", "*"))]
    (work,) = [await parts.redis.hgetall(key) for key in kept]
    await monitor.drain()
    assert [await parts.redis.hgetall(key) for key in kept] == [work], "a straggler's end adds nothing"
    assert (work[b"gitlab|batches"], work[b"gitlab|pairs"]) == (b"1", b"6")
