"""The checks of one batch, side by side: to each vendor's host as many lanes as it has places.

A lane checks one pair after the other, which costs less than a task and a turn at the gate for each.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias, cast

from registry.clock import steady
from registry.health import Reason
from registry.ids import Pair
from registry.recording import Outcome
from registry.schedule import Task
from worker.places import Hosts, Places

Found: TypeAlias = "Outcome | Task"
"""What came of a task: the outcome of its check, or the task itself when it was not made."""

STILL = 0.2
"""Seconds without an end of any check after which those that run are stragglers, not worth a worker's waiting.

Most vendors answer sooner, so a batch of theirs is not split; and it is a tenth of `batch_patience`, so a batch with a
hanging pair costs its worker little more than one without.
"""

UNASKED = (Reason.MISCONFIGURED, Reason.SECRET_UNAVAILABLE, Reason.MONITOR_ERROR)
"""What ends with these reasons tells nothing of the vendor's host: most often it was never asked."""


class Lanes:
    """Runs the checks of a batch, from now on. Belongs to one event loop.

    Args:
        tasks: what to check, by endpoint.
        hosts: the places at each endpoint; other batches take some of them too, and all take turns.
        check: makes one check at an endpoint. It raises nothing but cancellation.
    """

    def __init__(
        self,
        tasks: Iterable[tuple[str, Task]],
        hosts: Hosts,
        check: Callable[[Task, str], Awaitable[Found]],
    ) -> None:
        self._check, self._hosts, self._found = check, hosts, list[Found]()
        self._moved = steady()
        self._waiting: defaultdict[str, deque[Task]] = defaultdict(deque)
        for endpoint, task in tasks:
            self._waiting[endpoint].append(task)
        self._open = {task.pair: task for waiting in self._waiting.values() for task in waiting}
        self._idle = set[asyncio.Task[None]]()
        self._running = {
            self._opened(endpoint, waiting, hosts[endpoint])
            for endpoint, waiting in self._waiting.items()
            for _ in range(min(hosts[endpoint].many, len(waiting)))
        }

    @property
    def done(self) -> bool:
        """Has every lane ended?"""
        return not self._running

    @property
    def open(self) -> int:
        """How many pairs nothing is known of yet."""
        return len(self._open)

    async def settle(self, seconds: float) -> None:
        """Wait until all is checked, or so long; or until only stragglers are left.

        Nothing has ended for `STILL` seconds then, and whoever waits for a place waits for a host that hangs.
        """
        ends = steady() + seconds
        while self._running and (left := ends - steady()) > 0:
            quiet = steady() - self._moved
            if quiet >= STILL and not self._promising():
                return
            await self.run(min(left, STILL - quiet if quiet < STILL else STILL))

    async def run(self, seconds: float) -> None:
        """Wait until all is checked, or so long."""
        if self._running:
            done, self._running = await asyncio.wait(self._running, timeout=seconds)
            for lane in done:
                lane.result()

    def shut(self) -> None:
        """No further check begins: the pairs that still wait for a place are found unchecked."""
        for waiting in self._waiting.values():
            while waiting:
                task = waiting.popleft()
                self._find(task.pair, task)
        self._running -= self._idle
        for lane in self._idle:
            lane.cancel()

    def harvest(self) -> Sequence[Found]:
        """What was found since the last harvest."""
        found, self._found = self._found, []
        return found

    async def stop(self) -> list[Task]:
        """End whatever runs; returns the tasks that nothing is known of."""
        for lane in self._running:
            lane.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        return list(self._open.values())

    def _promising(self) -> bool:
        """Does a pair wait for a place that will be free soon?"""
        return any(waiting and not self._hosts[endpoint].hang for endpoint, waiting in self._waiting.items())

    def _opened(self, endpoint: str, waiting: deque[Task], host: Places) -> asyncio.Task[None]:
        def closed(_: asyncio.Task[None]) -> None:  # also where it was cancelled before its first step
            host.lanes -= 1

        lane = asyncio.create_task(self._lane(endpoint, waiting, host))
        host.lanes += 1
        lane.add_done_callback(closed)
        return lane

    async def _lane(self, endpoint: str, waiting: deque[Task], host: Places) -> None:
        lane = cast("asyncio.Task[None]", asyncio.current_task())
        while waiting:
            self._idle.add(lane)
            async with host.gate:
                self._idle.discard(lane)
                if waiting:
                    task, began, answered = waiting.popleft(), host.begin(), None
                    try:
                        found = await self._check(task, endpoint)
                        answered = _answered(found)
                    finally:
                        host.end(began, answered=answered)
                    self._moved = steady()
                    self._find(task.pair, found)
            await asyncio.sleep(0)  # the answers of a turn are judged first, then the next checks begin: 7 % less CPU

    def _find(self, pair: Pair, found: Found) -> None:
        self._found.append(found)
        self._open.pop(pair, None)


def _answered(found: Found) -> bool | None:
    """Did the vendor's host answer in time? None: that cannot be said."""
    if isinstance(found, Task) or found.verdict.reason in UNASKED:
        return None
    return found.verdict.reason is not Reason.TIMEOUT
