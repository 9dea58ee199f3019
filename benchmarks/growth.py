"""Does it cost what is due, or what exists? The same work at 1,000 to 1,000,000 pairs, in CPU seconds.

Each size is filled by the face real pairs come by. Then the same number of pairs is due again and again, claimed by a
tick of `dispatch`, and checked by the real `Monitor` with a connector that asks nobody, so that only our own work is
counted: this process's CPU and Redis' own. A look for incidents and an idle round of the reconciler follow.

The pairs of each turn are new to this process, as nearly all are where there are a million: nothing it keeps of a pair
helps it. What it would help where they are few is told beside: the same pairs are checked once more.

What is O(all pairs) by nature is no part of a tick: publishing (each cycle), and the full comparison with the store (by
default once an hour, in rounds of at most `registry.reconcile.ROUND` seconds).
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from subprocess import Popen
from typing import ClassVar, NamedTuple

import structlog

from benchmarks import synthetic
from benchmarks.figures import Figure, run
from benchmarks.settings import Settings
from registry import keys
from registry.bootstrap import Parts, assemble
from registry.check import CheckSession
from registry.connector import ConnectorConfig, ConnectorMetadata
from registry.ids import Pair, encoded
from registry.schedule import Entry
from worker.batch import Batch
from worker.dispatch import dispatch
from worker.incidents import detect
from worker.monitor import Monitor

DUE = 1_000
"""Pairs that are due at each measured tick, whatever the size."""

FLAT = 0.2
"""The largest size may cost so much more than the smallest."""


CONFIG = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://STILL"}})


class Costs(NamedTuple):
    """CPU microseconds, of this process and Redis together."""

    claim: float
    check: float
    again: float
    idle: float
    detect: float
    reconcile: float


class Still(synthetic.Plain):
    """A connector that finds every credential good without asking anybody."""

    manifest: ClassVar[ConnectorMetadata] = ConnectorMetadata(
        name="still",
        version="1.0.0",
        title="Still",
        default_base_url="https://still.example.com",
        auth_methods=("bearer",),
        steps=("auth",),
        documentation="https://still.example.com/docs",
    )

    async def check(self, session: CheckSession) -> None:
        """Passes."""
        with session.step("auth"):
            pass


def figures(*, short: bool) -> list[Figure]:
    """Each cost at the largest size beside the smallest one's, and the two main ones at the sizes between."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    sizes = (1_000, 10_000) if short else (1_000, 10_000, 100_000, 1_000_000)
    found = asyncio.run(_measured(sizes, 5 if short else 10))
    few, most = found[0], found[-1]
    return [
        _figure("claim and dispatch of a due pair", few.claim, most.claim, sizes[-1], judged=True),
        _figure("check of a pair, without the vendor's answer", few.check, most.check, sizes[-1], judged=True),
        Figure(
            "growth",
            f"check of a pair never seen, {sizes[-1]:,} pairs",
            most.check,
            "µs of CPU",
            few.again,
            "one seen before, of 1,000",
            most.check / few.again,
        ),
        _figure("a tick with nothing due", few.idle, most.idle, sizes[-1]),
        _figure("a look for incidents", few.detect, most.detect, sizes[-1]),
        _figure("a round of the reconciler without changes", few.reconcile, most.reconcile, sizes[-1]),
        *[
            Figure("growth", f"{what}, of {many:,}", cost, "µs of CPU")
            for many, costs in list(zip(sizes, found, strict=True))[1:-1]
            for what, cost in (("claim and dispatch", costs.claim), ("check", costs.check))
        ],
    ]


def _figure(what: str, few: float, most: float, many: int, *, judged: bool = False) -> Figure:
    ratio = most / few
    goal, reached = (f"≤ {1 + FLAT} ×; less is no fault", ratio <= 1 + FLAT) if judged else ("", None)
    return Figure(
        "growth", f"{what}, {many:,} pairs", most, "µs of CPU", few, "the same at 1,000", ratio, goal, reached
    )


async def _measured(sizes: Sequence[int], rounds: int) -> list[Costs]:
    """All sizes at once, in turns: whatever else the machine does disturbs all alike."""
    async with AsyncExitStack() as stack:
        places = [await stack.enter_async_context(_filled(many)) for many in sizes]
        costs: list[list[Costs]] = [[] for _ in places]
        for turn in range(rounds):
            for number, (place, found) in enumerate(zip(places, costs, strict=True)):
                pairs = [Pair("still", f"acme-{number}-{turn:02}-{n:06}") for n in range(DUE)]
                found.append(await _round(*place, pairs))
        return [Costs(*[statistics.median(column) for column in zip(*found, strict=True)]) for found in costs]


@asynccontextmanager
async def _filled(many: int) -> AsyncIterator[tuple[Parts, Popen[bytes]]]:
    with synthetic.redis_server() as (url, server):
        settings = {
            "redis_url": url,
            "config_store": "memory",
            "audit": "memory",
            "in_flight_seconds": 1000,
            "check_interval": 3600,
            "claim_lease": 3600,  # filling a million takes minutes, and what was set aside must not come back meanwhile
        }
        parts = assemble(Settings.model_validate(settings | {"broker_url": url.replace("db=1", "db=0")}))
        parts.catalog.register("still", Still)
        await synthetic.enter(parts, many, within=1e10)
        await _settled(parts)
        await parts.reconciler.run()
        await dispatch(parts, _ignore)  # the service checks
        yield parts, server
        await parts.aclose()


async def _round(parts: Parts, server: Popen[bytes], pairs: Sequence[Pair]) -> Costs:
    """The costs with `pairs`, which come, are checked twice, and go."""
    secrets = {f"CONNECTOR_SECRET_{encoded(pair.tenant)}__STILL": "good" for pair in pairs}
    os.environ.update(secrets)
    await parts.schedule.put_many([Entry(pair, 1, CONFIG, reset=False) for pair in pairs])
    claim, check = await _turn(parts, server, pairs)
    _, again = await _turn(parts, server, pairs)
    for pair, name in zip(pairs, secrets, strict=True):
        await parts.schedule.remove(pair, 1)
        del os.environ[name]
    return Costs(
        claim,
        check,
        again,
        idle=await _cpu(lambda: dispatch(parts, _nothing), server),
        detect=await _cpu(lambda: detect(parts), server),
        reconcile=await _cpu(parts.reconciler.run, server),
    )


async def _make_due(parts: Parts, pairs: Sequence[Pair]) -> None:
    due_ms = parts.clock.now_ms() - 5_000  # a claim looks at the clock of Redis, which is a round trip behind
    async with parts.redis.pipeline(transaction=False) as pipe:
        for pair in pairs:
            pipe.zadd(keys.due(parts.schedule.shard(pair), pair.connector), {pair.tenant: due_ms})
        await pipe.execute()


async def _turn(parts: Parts, server: Popen[bytes], pairs: Sequence[Pair]) -> tuple[float, float]:
    """Claim and check them; what each of the two costs for one."""
    await _make_due(parts, pairs)
    sent: list[Batch] = []
    claim = await _cpu(lambda: dispatch(parts, sent.append), server) / DUE
    assert sum(len(list(batch.pairs())) for batch in sent) == DUE
    check = await _cpu(lambda: _checked(parts, sent), server) / DUE
    assert (await parts.cache.status(pairs[0])).healthy
    return claim, check


async def _settled(parts: Parts) -> None:
    """As after a comparison with the store, which knows nothing of these pairs."""
    now = parts.clock.now_ms()
    for shard in range(parts.settings.shards):
        await parts.redis.set(keys.epoch(shard), now)
    await parts.redis.hset(
        keys.CURSOR, mapping={"full_ms": str(now), "cursor": (await parts.store.changes_since(None)).cursor}
    )


async def _checked(parts: Parts, batches: list[Batch]) -> None:
    monitor = Monitor(parts)
    for batch in batches:
        await monitor.check_batch(batch)


def _ignore(_: Batch) -> None:
    pass


def _nothing(_: Batch) -> None:
    raise AssertionError("nothing was due")


async def _cpu(work: Callable[[], Awaitable[object]], server: Popen[bytes]) -> float:
    """Microseconds of CPU that this process and Redis spend on `work`."""
    before = time.process_time(), synthetic.cpu_nanoseconds(server.pid)
    await work()
    return (time.process_time() - before[0]) * 1e6 + (synthetic.cpu_nanoseconds(server.pid) - before[1]) / 1000


if __name__ == "__main__":
    run(figures)
