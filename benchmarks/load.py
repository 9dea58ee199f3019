"""Is the load flat? How many checks are sent in each second: usually, after beat stood still, after Redis was emptied.

Pairs with an interval of 12 s live through it in real time, on a real Redis: `dispatch` once a second, `Monitor` for
its batches, the reconciler where Redis lost its data. Only beat is played, by a loop, so that it can be stopped for as
long as wanted. What counts is what a tick sends, of a connector that asks nobody.

In a stop of more than ten seconds what became due is spread over as long as it lasted, and pairs that were entered anew
find back into their phases within an interval: either brings twice the usual load at most. A shorter stop is made good
for at once, by the first tick after it; how much that is is told without a goal.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice

import structlog

from benchmarks import synthetic
from benchmarks.figures import Figure, run
from benchmarks.growth import CONFIG, Still
from benchmarks.settings import Settings
from registry import keys
from registry.bootstrap import Parts
from registry.clock import steady
from registry.ids import Pair, encoded
from worker.batch import Batch
from worker.dispatch import STOP_MS, dispatch
from worker.flight import unsent
from worker.monitor import Monitor

FLAT = 1.25
"""The highest second may be so many times the mean: pairs are spread by a hash, not evenly."""

TWICE = 2 * FLAT
PAUSE, STOP = 5, STOP_MS // 1000 + 1
"""Seconds without a tick, of which the second is long enough to be a stop."""


def figures(*, short: bool) -> list[Figure]:
    """The highest second beside the mean: usually, and in the intervals after each disturbance."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return asyncio.run(_figures(3_000 if short else 6_000, 6 if short else 12))


async def _figures(many: int, interval: int) -> list[Figure]:
    async with _filled(many, interval) as parts:
        beat = Beat(parts)
        await asyncio.gather(beat.tick(2 * interval), _refilled(parts))
        usual = await beat.tick(interval)
        stopped = await beat.tick(2 * interval, after=STOP)
        paused = await beat.tick(interval, after=PAUSE)
        await parts.redis.flushall()
        emptied, _ = await asyncio.gather(beat.tick(2 * interval), _refilled(parts))
    mean = many / interval
    return [
        _figure(f"one interval, {many:,} pairs", usual, mean, FLAT),
        _figure(f"two intervals after {STOP} s without beat", stopped, mean, TWICE),
        _figure("two intervals after Redis was emptied", emptied, mean, TWICE),
        _figure(f"one interval after {PAUSE} s without beat", paused, mean, None),
    ]


def _figure(when: str, sent: Sequence[int], mean: float, most: float | None) -> Figure:
    ratio = max(sent) / mean
    goal, reached = (f"≤ {most:g} × the mean", ratio <= most) if most else ("", None)
    what = f"{when}: the highest second"
    drawn = tuple(sent) if most else ()  # beside a burst all others would be too small to see
    return Figure("load", what, max(sent), "checks", mean, "the mean", ratio, goal, reached, seconds=drawn)


class Beat:
    """Ticks once a second by the steady clock, and checks what the ticks send."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._monitor, self._next = parts, Monitor(parts), steady()

    async def tick(self, times: int, *, after: float = 1.0) -> list[int]:
        """Tick so often, first `after` seconds from the last tick; how many checks each tick sent."""
        self._next += after - 1
        return [await self._tick() for _ in range(times)]

    async def _tick(self) -> int:
        await asyncio.sleep(self._next - steady())
        self._next += 1
        await self._parts.redis.zadd(keys.CHILDREN, {"benchmark": self._parts.clock.now_ms()})  # a sign of life
        batches: list[Batch] = []
        await dispatch(self._parts, batches.append)
        ours = [batch for batch in batches if batch.connector == "still"]
        await unsent(self._parts, [batch for batch in batches if batch not in ours])  # service checks of real vendors
        for batch in ours:
            await self._monitor.check_batch(batch)
        return sum(len(list(batch.pairs())) for batch in ours)


@asynccontextmanager
async def _filled(many: int, interval: int) -> AsyncIterator[Parts]:
    """Parts whose store has the pairs, and a Redis that is empty yet."""
    with synthetic.redis_server() as (url, _):
        told = {"redis_url": url, "config_store": "memory", "audit": "memory", "check_interval": interval}
        async with synthetic.assembled(Settings.model_validate(told)) as parts:
            parts.catalog.register("still", Still)
            pairs = (Pair("still", f"acme-customer-{n:06}") for n in range(many))
            while page := list(islice(pairs, 500)):
                os.environ.update({f"CONNECTOR_SECRET_{encoded(pair.tenant)}__STILL": "good" for pair in page})
                await parts.store.set_many([(pair, CONFIG) for pair in page], actor="benchmark")
            yield parts


async def _refilled(parts: Parts) -> None:
    """Bring what the store has into the schedule, to the end."""
    while "removed" not in await parts.reconciler.run():
        pass


if __name__ == "__main__":
    run(figures)
