"""The connectors that `get` has handed out: built once a pair and configuration, closed when no longer current."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from registry.clock import steady
from registry.connector import Connector
from registry.ids import Pair

Build = Callable[[], Awaitable[Connector]]


class Instances:
    """A bounded pool. Belongs to one event loop.

    Args:
        capacity: instances kept; the least recently used one goes first.
        idle: seconds after which an unused instance is closed.
    """

    def __init__(self, *, capacity: int = 1_000, idle: float = 900.0) -> None:
        self._capacity, self._idle = capacity, idle
        self._built: OrderedDict[tuple[Pair, int], tuple[Connector, float]] = OrderedDict()
        self._building: dict[tuple[Pair, int], asyncio.Task[Connector]] = {}

    async def get(self, pair: Pair, revision: int, build: Build) -> Connector:
        """The instance of this revision of the pair's configuration; concurrent callers share one construction."""
        key = (pair, revision)
        if key in self._built:
            connector, _ = self._built.pop(key)
            self._built[key] = connector, steady()
            return connector
        task = self._building.get(key)
        if task is None:
            task = self._building[key] = asyncio.ensure_future(self._build(key, build))
        return await asyncio.shield(task)

    async def drop(self, matches: Callable[[Pair], bool]) -> None:
        """Close the instances of every pair that `matches`; what is being built is not kept."""
        for key in [key for key in self._building if matches(key[0])]:
            del self._building[key]
        await self._close([key for key in self._built if matches(key[0])])

    async def aclose(self) -> None:
        """Close everything."""
        await self.drop(lambda _: True)

    async def _build(self, key: tuple[Pair, int], build: Build) -> Connector:
        try:
            connector = await build()
        except BaseException:
            self._building.pop(key, None)
            raise
        if self._building.pop(key, None) is not None:  # dropped meanwhile: its caller may use it, nobody else will
            self._built[key] = connector, steady()
            await self._evict(key)
        return connector

    async def _evict(self, newest: tuple[Pair, int]) -> None:
        old = [key for key in self._built if key[0] == newest[0] and key[1] < newest[1]]
        idle = [key for key, (_, used) in self._built.items() if steady() - used > self._idle]
        surplus = list(self._built)[: max(0, len(self._built) - self._capacity)]
        await self._close([key for key in dict.fromkeys(old + idle + surplus) if key != newest])

    async def _close(self, old: list[tuple[Pair, int]]) -> None:
        for key in old:
            connector, _ = self._built.pop(key)
            await connector.aclose()
