"""How late things are, as histograms: counted in this process, added to Redis with its next sign of life.

The stages of a check: ``schedule`` (due → claimed), ``queue`` (claimed → started: the broker, a free worker, a place at
the vendor's host) and ``check`` (started → finished). ``loop`` is how late an event loop turns. A process that is
killed loses what it counted since its last sign of life, a few seconds' worth.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

from registry import keys
from registry.connection import Redis
from registry.facts import MINUTE_MS, RECENT_MS, count

BOUNDS_MS = (10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000)
"""Upper bounds of every histogram's buckets but the last."""

_COLUMNS = (*map(str, BOUNDS_MS), "inf", "sum_ms")

STAGES = ("schedule", "queue", "check")
LOOP = "loop"


class Lags:
    """What was observed and is not in Redis yet. Belongs to one event loop."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()
        self._fresh: dict[str, list[int]] = {}

    def observe(self, what: str, milliseconds: float) -> None:
        """Count one observation of a stage, or of the loop; what seems to be early was on time."""
        late = max(0, round(milliseconds))
        fresh = self._fresh.get(what)
        if fresh is None:
            fresh = self._fresh[what] = [0] * len(_COLUMNS)
        fresh[bisect_left(BOUNDS_MS, late)] += 1
        fresh[-1] += late

    async def flush(self, redis: Redis, now_ms: int) -> None:
        """Add everything to Redis. Raises what redis-py raises; then it is kept for the next time."""
        counted, self._counted = self._counted, Counter()
        fresh, self._fresh = self._fresh, {}
        for what, row in fresh.items():
            named = zip(_COLUMNS, row, strict=True)
            counted.update({f"lag|{what}|{column}": count for column, count in named if count})
        try:
            async with redis.pipeline(transaction=False) as pipe:
                count(pipe, counted, now_ms)
                await pipe.execute()
        except BaseException:
            self._counted.update(counted)
            raise


async def recent(redis: Redis, now_ms: int, minutes: int = RECENT_MS // MINUTE_MS) -> Counter[str]:
    """What was observed in the last five minutes, or fewer, everywhere; the present one is one of them."""
    minute, facts = now_ms // MINUTE_MS, Counter[str]()
    async with redis.pipeline(transaction=False) as pipe:
        for back in range(minutes):
            pipe.hgetall(keys.lags(minute - back))
        for row in await pipe.execute():
            facts.update({name.decode(): int(count) for name, count in row.items()})
    return facts


def buckets(facts: Mapping[str, int], what: str) -> tuple[list[tuple[str, float]], float]:
    """The cumulated buckets of one histogram (bound in seconds → count), and its sum in seconds."""
    total, rows = 0, list[tuple[str, float]]()
    for bound in (*map(str, BOUNDS_MS), "inf"):
        total += facts.get(f"lag|{what}|{bound}", 0)
        rows.append(("+Inf" if bound == "inf" else str(int(bound) / 1000), float(total)))
    return rows, facts.get(f"lag|{what}|sum_ms", 0) / 1000


def quantile(facts: Mapping[str, int], what: str, part: float) -> float | None:
    """Seconds that `part` (0 to 1) of the observations kept within, up to the next bound; None without any."""
    rows, _ = buckets(facts, what)
    total = rows[-1][1]
    return next(float(bound) for bound, count in rows if count >= part * total) if total else None
