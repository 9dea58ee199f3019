"""What keeping history costs: Redis' memory for a pair, and CPU for a check, in Redis and in the worker.

Batches of 100 checks of one connector are recorded, a minute later each time; with history and without it take turns.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import NamedTuple

from benchmarks.figures import Figure, run
from benchmarks.settings import Settings
from benchmarks.synthetic import CONNECTORS, enter, pairs, redis_server, verdict
from registry.bootstrap import assemble
from registry.clock import SharedClock
from registry.ids import Pair
from registry.record import Record
from registry.recording import Outcome, Recorder
from registry.schedule import Scheduled, Task

BUDGET = 1_024
BATCH = 100
MINUTE_MS = 60_000


class Cpu(NamedTuple):
    """Seconds."""

    redis: float
    here: float


class Turning(SharedClock):
    """A clock that is turned on by hand."""

    at_ms = 0

    def now_ms(self) -> int:
        return self.at_ms


class Checks:
    """Pairs that are checked every minute."""

    def __init__(self, settings: Settings, many: int) -> None:
        self.parts, self._many = assemble(settings), many
        self._pairs = sorted(pairs(many), key=lambda pair: CONNECTORS.index(pair.connector))
        self._records, self._clock, self._fence = dict[Pair, Record](), Turning(), 0
        self._recorder = Recorder(self.parts.redis, self._clock, settings)

    async def begin(self) -> float:
        """Enter the pairs and check them once; bytes of Redis a pair."""
        before = await self._memory()
        await enter(self.parts, self._many)
        self._clock.at_ms = self.parts.clock.now_ms()
        await self.round()
        return (await self._memory() - before) / self._many

    async def round(self) -> Cpu:
        """Check every pair; what it took."""
        self._clock.at_ms += MINUTE_MS
        self._fence += 1
        outcomes = [self._outcome(pair) for pair in self._pairs]
        redis, here = await self._redis_cpu(), time.process_time()
        for start in range(0, len(outcomes), BATCH):
            self._records |= await self._recorder.record(outcomes[start : start + BATCH])
        here = time.process_time() - here
        redis = await self._redis_cpu() - redis
        assert {record.fence for record in self._records.values()} == {self._fence}
        return Cpu(redis, here)

    def _outcome(self, pair: Pair) -> Outcome:
        task = Task(Scheduled(pair, 1, None), self._records.get(pair), self._fence)
        return Outcome(task, verdict(pair, self._clock.at_ms), f"{pair.connector}|vendor.example.com")

    async def _redis_cpu(self) -> float:
        told = await self.parts.redis.info("cpu")
        return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])

    async def _memory(self) -> int:
        return int((await self.parts.redis.info("memory"))["used_memory"])


def figures(*, short: bool) -> list[Figure]:
    """Bytes a pair; CPU a check with history beside one without."""
    many, turns = (2_000, 5) if short else (10_000, 9)
    with redis_server() as (url, _):
        bare = Settings.model_validate({"redis_url": url, "config_store": "memory", "history": False})
        kept = bare.model_copy(update={"redis_url": url.replace("db=1", "db=2"), "history": True})
        return asyncio.run(_measured(Checks(kept, many), Checks(bare, many), many, turns))


async def _measured(kept: Checks, bare: Checks, many: int, turns: int) -> list[Figure]:
    try:
        without = await bare.begin()
        size = await kept.begin() - without
        rows = [(await kept.round(), await bare.round()) for _ in range(turns)]
    finally:
        await kept.parts.aclose()
        await bare.parts.aclose()
    redis, here = (
        [statistics.median(row[side][place] for row in rows) / many * 1e6 for side in range(2)] for place in range(2)
    )
    goal = f"≤ {BUDGET} bytes"
    return [
        Figure("memory", "Redis for a pair's history", size, "bytes", goal=goal, reached=size <= BUDGET),
        _beside("Redis' CPU to record a check with history", *redis),
        _beside("a worker's CPU to record a check with history", *here),
    ]


def _beside(what: str, kept: float, bare: float) -> Figure:
    return Figure("history", what, kept, "µs", other=bare, other_name="without", ratio=kept / bare)


if __name__ == "__main__":
    run(figures)
