"""How much one caller may ask of the API: an allowance that is shared by all its processes, and fills up with time."""

from __future__ import annotations

from dataclasses import dataclass

from registry import keys
from registry.clock import steady
from registry.connection import AWAY, Redis, script


@dataclass(frozen=True, slots=True)
class Allowance:
    """Up to `most` units at once, and `rate` units a second in the long run."""

    most: float
    rate: float


class Bucket:
    """One allowance that is this process's alone, whether Redis answers or not."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance, self._full = allowance, 0.0

    def take(self, cost: float) -> float:
        """As `Throttle.take`."""
        now, rate = steady(), self._allowance.rate
        after = max(self._full, now) + cost / rate
        wait = after - self._allowance.most / rate - now
        if wait <= 0:
            self._full = after
        return max(0.0, wait)


class Throttle:
    """Takes from allowances in Redis."""

    def __init__(self, redis: Redis) -> None:
        self._script = script(redis, "throttle")

    async def take(self, who: str, cost: float, allowance: Allowance) -> float:
        """Take `cost` units; returns 0, or the seconds to wait, and then nothing was taken.

        While Redis is away everybody is let through: there is little to protect then.
        """
        cost = min(cost, allowance.most)
        try:
            wait = await self._script(keys=[keys.throttle(who)], args=[cost, 1000 / allowance.rate, allowance.most])
        except AWAY:
            return 0.0
        return float(wait) / 1000
