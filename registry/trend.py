"""How the checks of the last hours ended, minute by minute: what a sparkline shows.

The detector of incidents counts them anyway; here it leaves a few numbers a minute and endpoint behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry import keys
from registry.connection import Redis
from registry.tally import BUCKET_MS, Buckets, Ending, merged

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline

MINUTE_MS = 60_000
REACH_MS = MINUTE_MS + BUCKET_MS
"""What has to be read of the tallies, so that a look at every `BUCKET_MS` sees each minute whole at least once."""

KEPT = 3 * 3600
"""Seconds a minute is kept."""


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of one connector: how many checks ended well, and how many in each other way."""

    good: int = 0
    failed: int = 0
    rejected: int = 0
    limited: int = 0
    ours: int = 0

    @property
    def share(self) -> float | None:
        """Which part ended well; None: nothing was checked."""
        total = self.good + self.failed + self.rejected + self.limited + self.ours
        return self.good / total if total else None


_PLACES: Mapping[Ending, str] = {
    Ending.GOOD: "good",
    Ending.FAILED: "failed",
    Ending.CUT_OFF: "failed",
    Ending.REJECTED: "rejected",
    Ending.LIMITED: "limited",
    Ending.OURS: "ours",
}


def note(pipe: Pipeline, buckets: Buckets, from_ms: int, now_ms: int) -> None:
    """Leave behind what `buckets` (read from `from_ms` on) tell of this minute and, if it is whole, of the last one."""
    for minute in (now_ms // MINUTE_MS - 1, now_ms // MINUTE_MS):
        first = minute * MINUTE_MS // BUCKET_MS
        if first < from_ms // BUCKET_MS:
            continue
        stretch = range(first, first + MINUTE_MS // BUCKET_MS)
        rows = [tallies for bucket, tallies in buckets.items() if bucket in stretch]
        counts = {
            f"{endpoint}|{ending.value}": count
            for endpoint in {name for tallies in rows for name in tallies}
            for ending, count in merged(t[endpoint] for t in rows if endpoint in t).counts.items()
            if count
        }
        if counts:
            pipe.hset(keys.trend(minute), mapping={name: str(count) for name, count in counts.items()})
            pipe.expire(keys.trend(minute), KEPT)


async def trends(redis: Redis, now_ms: int, *, minutes: int = 60) -> dict[str, list[Minute]]:
    """The last `minutes` whole minutes by connector, the oldest first. Raises what redis-py raises."""
    last = now_ms // MINUTE_MS
    async with redis.pipeline(transaction=False) as pipe:
        for minute in range(last - minutes, last):
            pipe.hgetall(keys.trend(minute))
        rows = await pipe.execute()
    counted: list[dict[str, dict[str, int]]] = []
    for row in rows:
        found: dict[str, dict[str, int]] = {}
        for name, count in row.items():
            endpoint, _, ended = name.decode().rpartition("|")
            places = found.setdefault(endpoint.partition("|")[0], {})
            place = _PLACES[Ending(ended)]
            places[place] = places.get(place, 0) + int(count)
        counted.append(found)
    connectors = sorted({name for found in counted for name in found})
    return {name: [Minute(**found.get(name, {})) for found in counted] for name in connectors}
