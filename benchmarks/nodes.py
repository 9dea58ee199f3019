"""What one core of each kind of node does: CPU seconds for a pair's turn, and how many pairs that makes.

The basis of the arithmetic in ``docs/scaling.md``. Everything is told in CPU seconds, which what else runs on the
machine disturbs little; "at 60 s" is a core that does nothing else, used to the full.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psutil
import structlog

from benchmarks import synthetic
from benchmarks.figures import Figure, run
from benchmarks.settings import Settings
from registry import keys
from registry.bootstrap import Parts
from registry.ids import Pair
from registry.schedule import Claim
from worker.batch import Batch, batched
from worker.demo.tenants import demo_tenants
from worker.monitor import Monitor
from worker.publish import pairs_body

INTERVAL = 60
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
"""Seals the demo's made-up tokens."""


def figures(*, short: bool) -> list[Figure]:
    """Redis, a check process and the publisher."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    return asyncio.run(_figures(10_000 if short else 100_000, 60 if short else 200))


async def _figures(many: int, tenants: int) -> list[Figure]:
    with synthetic.redis_server() as (url, redis), _vendors() as vendors_url:
        told = {"redis_url": url, "config_store": "memory", "encryption_keys": KEY, "egress_allow": "127.0.0.0/8"}
        # nothing is handed back: else some first exchanges of a token would come in the turns that are measured
        settings = Settings.model_validate({**told, "batch_patience": 120})
        async with synthetic.assembled(settings) as parts:
            rows = await _redis_and_publisher(parts, many, redis.pid)
            await parts.redis.flushall()
        async with synthetic.assembled(settings) as parts:
            rows += await _checks(parts, tenants, vendors_url)
    return rows


@contextmanager
def _vendors() -> Iterator[str]:
    """The demo vendors in a process of their own; gives their URL."""
    command = [sys.executable, "-m", "worker.demo.vendors", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def _redis_and_publisher(parts: Parts, many: int, redis_pid: int) -> list[Figure]:
    await synthetic.enter(parts, many)
    await synthetic.check(parts, many)
    turn = await _cpu(redis_pid, lambda: _turn(parts, many))
    bodies: list[int] = []
    publisher = await _cpu(None, lambda: _exposed(parts, bodies))
    scanned = await _cpu(redis_pid, lambda: _exposed(parts, []))
    return [
        _core("Redis: claiming, reading and recording a check", turn / many),
        Figure("", "publisher: CPU for a pair at each push", publisher / many * 1e6, "µs"),
        Figure("", "Redis: CPU for a pair at each push", scanned / many * 1e6, "µs"),
        Figure("", "publisher: body for a pair at each push", sum(bodies) / many, "bytes"),
    ]


async def _checks(parts: Parts, tenants: int, vendors_url: str) -> list[Figure]:
    configured = demo_tenants(tenants, vendors_url)["tenants"]
    for tenant, configs in configured.items():
        for name, config in configs.items():
            await parts.configurations.set(Pair(name, tenant), config, actor="benchmark")
    monitor, pairs = Monitor(parts), [Pair(name, t) for t in configured for name in synthetic.CONNECTORS]
    first = {True: list[Batch](), False: list[Batch]()}
    for batch in await _claimed(parts, pairs):
        first[batch.connector == "vertex"].append(batch)
    await _batches(monitor, first[False])  # connections, configurations
    exchanged = await _cpu(None, partial(_batches, monitor, first[True])) / tenants
    spent, turns = 0.0, 5
    for _ in range(turns):
        batches = await _claimed(parts, pairs)
        spent += await _cpu(None, partial(_batches, monitor, batches))
    await monitor.drain()
    return [
        _core("check process: a whole check over HTTP, of five connectors", spent / turns / len(pairs)),
        Figure("", "check process: a check of Vertex AI that exchanges its key for a token", exchanged * 1e6, "µs CPU"),
    ]


def _core(what: str, seconds: float) -> Figure:
    pairs = f"{INTERVAL / seconds:,.0f} pairs a core at {INTERVAL} s"
    return Figure("", f"{what} ({pairs})", seconds * 1e6, "µs CPU")


async def _cpu(pid: int | None, work: Callable[[], Awaitable[object]]) -> float:
    """CPU seconds that a process (None: this one) spends on some work."""
    process = psutil.Process(pid)
    began = process.cpu_times()
    await work()
    ended = process.cpu_times()
    return float(ended.user + ended.system - began.user - began.system)


async def _turn(parts: Parts, many: int) -> None:
    """One turn of every pair: made due, claimed, read, recorded. (That they are made due is a small part of it.)"""
    await _due(parts, list(synthetic.pairs(many)))
    while claims := await parts.schedule.claim(dict.fromkeys(synthetic.CONNECTORS, 2_000)):
        await parts.schedule.read(claims)
    await synthetic.check(parts, many)


async def _due(parts: Parts, pairs: list[Pair]) -> None:
    for start in range(0, len(pairs), 1_000):
        async with parts.redis.pipeline(transaction=False) as pipe:
            for pair in pairs[start : start + 1_000]:
                pipe.zadd(keys.due(parts.schedule.shard(pair), pair.connector), {pair.tenant: 0}, xx=True)
            await pipe.execute()


async def _claimed(parts: Parts, pairs: list[Pair]) -> list[Batch]:
    await _due(parts, pairs)
    claims: list[Claim] = []
    while more := await parts.schedule.claim(dict.fromkeys(synthetic.CONNECTORS, 2_000)):
        claims += more
    return batched(claims, parts.settings.batch_size)


async def _batches(monitor: Monitor, batches: list[Batch]) -> None:
    for batch in batches:
        await monitor.check_batch(batch)


async def _exposed(parts: Parts, bodies: list[int]) -> None:
    bodies += [len(await pairs_body(parts, group)) for group in range(parts.settings.metrics_groups)]


if __name__ == "__main__":
    run(figures)
