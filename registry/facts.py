"""The system's own counters, each kept twice: since the beginning, for the metrics, and by the minute, for who asks how
it is now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from registry import keys

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline
    from redis.client import Pipeline as SyncPipeline

MINUTE_MS = 60_000
RECENT_MS = 5 * MINUTE_MS
"""What counts as recent, in whole minutes."""


def count(pipe: Pipeline | SyncPipeline, counted: Mapping[str, int], now_ms: int) -> None:
    """Add to `pipe` that counters grow; `now_ms` is the shared clock's."""
    minute = keys.lags(now_ms // MINUTE_MS)
    for name, increment in counted.items():
        if increment:
            pipe.hincrby(keys.PLATFORM, name, increment)
            pipe.hincrby(minute, name, increment)
    pipe.pexpire(minute, 2 * RECENT_MS)
