"""A time limit for each of many things that run at once, with one timer for all of them.

`asyncio.timeout` sets a timer for each, and nearly always cancels it: a good part of what a check costs.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Deadlines:
    """The limits of what runs on one event loop. They are as exact as those of `asyncio.timeout`."""

    def __init__(self) -> None:
        self._open: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> Deadline:
        """A block that may take so many seconds: ``with deadlines.within(10) as deadline: ...``."""
        return Deadline(self, seconds)

    def watch(self, deadline: Deadline) -> None:
        """End what runs under this deadline in time."""
        self._open.add(deadline)
        if self._timer is None or deadline.ends < self._timer.when():
            self._wake_at(deadline.ends)

    def leave(self, deadline: Deadline) -> None:
        """It has ended by itself."""
        self._open.discard(deadline)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._end_late)

    def _end_late(self) -> None:
        """End what is over its time, and sleep until the first of the others would be."""
        now, self._timer = asyncio.get_running_loop().time(), None
        for late in [deadline for deadline in self._open if deadline.ends <= now]:
            self._open.discard(late)
            late.expire(now)
        if self._open:
            self._wake_at(min(deadline.ends for deadline in self._open))


class Deadline:
    """One limit, of the task that entered it; leaving it late raises `TimeoutError`.

    `overslept` is by how many seconds the event loop came too late to end it.
    """

    __slots__ = ("_all", "_asked", "_expired", "_seconds", "_task", "ends", "overslept")

    def __init__(self, all_: Deadlines, seconds: float) -> None:
        self._all, self._seconds, self._expired, self.overslept = all_, seconds, False, 0.0

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline ends a task, and none runs here")
        self._task, self._asked = task, task.cancelling()
        self.restart()
        self._all.watch(self)
        return self

    @property
    def called_off(self) -> bool:
        """Has somebody else asked the task to end since it began?"""
        return self._task.cancelling() > self._asked

    def restart(self) -> None:
        """Let the time begin anew."""
        self.ends = asyncio.get_running_loop().time() + self._seconds

    def expire(self, now: float) -> None:
        """The time is over, at `now` on the loop's clock."""
        self._expired, self.overslept = True, now - self.ends
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.leave(self)
        if self._expired and self._task.uncancel() <= self._asked and kind is asyncio.CancelledError:
            raise TimeoutError from error  # nobody else asked it to end
