"""One clock for everybody: Redis' own ``TIME``, carried forward by this machine's steady clock.

Wall clocks of workers and readers differ and jump; a verdict that one host calls fresh must not be stale for
another. So a process asks Redis for the time now and then, and adds what its own steady clock has counted since.
"""

from __future__ import annotations

import time

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # BOOTTIME also counts while suspended
RECALIBRATE_AFTER = 30.0
"""Seconds after which a process should ask Redis for the time again."""


def steady() -> float:
    """Seconds of a clock that never jumps and counts while the machine is suspended."""
    return time.clock_gettime(_STEADY)


class SharedClock:
    """Unix milliseconds as Redis sees them."""

    def __init__(self) -> None:
        self._offset_ms: float | None = None
        self._calibrated = 0.0

    def calibrate(self, redis_time: tuple[int, int], asked: float) -> None:
        """Set by the answer of ``TIME`` (seconds, microseconds); `asked` is `steady()` before the question.

        The answer is taken as of the question, so that a slow answer makes this clock run ahead (verdicts look
        older than they are), never behind.
        """
        answered = steady()
        self._offset_ms = redis_time[0] * 1000 + redis_time[1] / 1000 - asked * 1000
        self._calibrated = answered

    @property
    def due(self) -> bool:
        """Should the next round trip ask for ``TIME``?"""
        return self._offset_ms is None or steady() - self._calibrated > RECALIBRATE_AFTER

    def now_ms(self) -> int:
        """Unix milliseconds. Before the first calibration this machine's wall clock has to do."""
        if self._offset_ms is None:
            return time.time_ns() // 1_000_000
        return int(steady() * 1000 + self._offset_ms)
