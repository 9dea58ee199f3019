"""Which of beat's ticks are done. A tick lives long, see `beat_schedule.TICK_LIFE`, so a backlog of them may wait."""

from __future__ import annotations

from beat_schedule import beat_schedule
from registry import keys
from registry.bootstrap import Parts
from registry.connection import AWAY, script


async def begin(parts: Parts, task: str) -> bool:
    """Is the tick worth doing? Not when the last one of `task` began less than half its pace ago, by Redis' time.

    So a backlog costs a millisecond a tick, and whose wall clock is right does not matter. When Redis does not answer
    the tick is done: its work says itself what it cannot do.
    """
    every = beat_schedule(parts.settings)[task]["schedule"]
    try:
        return bool(await script(parts.redis, "tick")(keys=[keys.TICKS], args=[task, int(every * 500)]))
    except AWAY:
        return True
