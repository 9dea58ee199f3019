"""The connectors that the facade hands out: built once a pair and configuration, closed after their last use."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from registry.clock import steady
from registry.connector import Connector
from registry.errors import NotConfigured, SecretUnavailable, StoreUnavailable
from registry.ids import Pair

log = structlog.get_logger(__name__)

Build = Callable[[], Awaitable[Connector]]
Source = Callable[[], Awaitable[tuple[int, Build]]]
"""Finds out the pair's configuration now: its revision, and how to build its connector."""

CLOSE_TIMEOUT = 5.0
"""Seconds a connector's own `aclose` may take."""


@dataclass(eq=False, slots=True)
class Instance:
    """One built connector. `lent` is when it was last handed out without anybody telling when that use ends."""

    pair: Pair
    revision: int
    connector: Connector
    made: float
    used: float
    lent: float = float("-inf")
    uses: int = 0
    void: bool = False
    """Its configuration has changed: nobody gets it any more."""


@dataclass(eq=False, slots=True)
class _Flight:
    """A construction under way, for all who `wait`."""

    task: asyncio.Task[Instance] = field(init=False)
    waiting: int = 0
    void: bool = False


class Instances:
    """A bounded pool of instances, one a pair. Belongs to one event loop.

    What is retired (changed, removed, surplus, idle) is closed as soon as its counted uses have ended, but no earlier
    than `grace` after it was lent.

    Args:
        capacity: instances kept; the least recently used one goes first.
        idle: seconds after which an unused instance is retired.
        grace: seconds a lent instance stays open after it was lent.
        renew: seconds after which an instance is built anew, since its secrets may have been replaced.
    """

    def __init__(self, *, capacity: int, idle: float, grace: float, renew: float) -> None:
        self._capacity, self._idle, self._grace, self._renew = capacity, idle, grace, renew
        self._built: OrderedDict[Pair, Instance] = OrderedDict()  # the least recently used first
        self._flights: dict[Pair, _Flight] = {}
        self._leaving: set[Instance] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def hold(self, pair: Pair, known: int | None, source: Source) -> Instance:
        """The pair's instance, counted as in use until `give_back`. Concurrent callers share one construction.

        Args:
            known: a revision the instance must not be older than; None if it is to be asked for.
            source: called when no instance is current. While the configuration store is away, an instance that
                cannot be compared with it goes on.

        Raises:
            Whatever `source` and the construction raise, to all who wait for it; nothing of that is kept.
        """
        while True:
            instance = self._built.get(pair)
            joined = False
            if instance is not None and self._current(instance, known):
                instance.uses += 1
            else:
                joined = pair in self._flights
                instance = await self._landed(pair, source)
            outdated = joined and known is not None and instance.revision < known
            if not instance.void and not outdated:
                break
            self.give_back(instance)
        self._touch(instance)
        return instance

    def lend(self, instance: Instance) -> Connector:
        """Hand out a held instance for a use whose end nobody will tell."""
        instance.lent = steady()
        self.give_back(instance)
        return instance.connector

    def give_back(self, instance: Instance) -> None:
        """End one counted use."""
        instance.uses -= 1
        self._touch(instance)
        self._tidy()

    def retire(self, matches: Callable[[Pair], bool], *, before: int = 0) -> None:
        """Nobody gets the instances of the pairs that `matches` any more, nor what is being built for them.

        Args:
            before: only those of an older revision; 0 means all.
        """
        for pair in [pair for pair in {*self._built, *self._flights} if matches(pair)]:
            self.void(pair, before=before)
        for instance in self._leaving:
            if matches(instance.pair) and (not before or instance.revision < before):
                instance.void = True
        self._tidy()

    def void(self, pair: Pair, *, before: int = 0) -> None:
        """The same for one pair, whatever the number of the others; what has left already is not looked at."""
        instance = self._built.get(pair)
        if instance is not None and (not before or instance.revision < before):
            instance.void = True
            self._leave(instance)
        if flight := self._flights.pop(pair, None):
            flight.void = True

    async def settle(self) -> None:
        """Wait until what can be closed now is closed."""
        while self._closing:
            await asyncio.wait(self._closing)

    async def aclose(self) -> None:
        """Close everything, in use or not."""
        flights = [flight.task for flight in self._flights.values()]
        for task in flights:
            task.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        self.retire(lambda _: True)
        for instance in list(self._leaving):
            self._close(instance)
        if self._timer is not None:
            self._timer.cancel()
        await self.settle()

    def _current(self, instance: Instance, known: int | None) -> bool:
        return known is not None and instance.revision >= known and steady() - instance.made < self._renew

    async def _landed(self, pair: Pair, source: Source) -> Instance:
        """What the construction under way, or one begun now, gives; counted as in use."""
        flight = self._flights.get(pair)
        if flight is None:
            flight = self._flights[pair] = _Flight()
            flight.task = asyncio.create_task(self._fly(flight, pair, source), name=f"build {pair}")
            flight.task.add_done_callback(_retrieved)
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if flight.task.done() and not flight.task.cancelled() and flight.task.exception() is None:
                self.give_back(flight.task.result())
            else:
                flight.waiting -= 1
            raise

    async def _fly(self, flight: _Flight, pair: Pair, source: Source) -> Instance:
        try:
            instance = await self._built_now(pair, source)
        finally:
            if self._flights.get(pair) is flight:
                del self._flights[pair]
        instance.uses += flight.waiting
        if instance is not self._built.get(pair):
            self._enter(instance, void=flight.void)
        return instance

    async def _built_now(self, pair: Pair, source: Source) -> Instance:
        """The present instance where it is still right or cannot be replaced, else a new one."""
        try:
            revision, build = await source()
        except NotConfigured:
            self.retire(lambda other: other == pair)
            raise
        except StoreUnavailable:
            if present := self._built.get(pair):
                return present
            raise
        present = self._built.get(pair)
        if present is not None and self._current(present, revision):
            return present
        try:
            return Instance(pair, revision, await build(), steady(), steady())
        except SecretUnavailable:
            present = self._built.get(pair)
            if present is not None and present.revision == revision:
                return present
            raise

    def _enter(self, instance: Instance, *, void: bool) -> None:
        """Keep a new instance, unless its configuration changed while it was built."""
        present = self._built.get(instance.pair)
        if void or (present is not None and present.revision > instance.revision):
            instance.void = True
            self._leave(instance)
        else:
            if present is not None:
                present.void = True
                self._leave(present)
            self._built[instance.pair] = instance
            for surplus in list(self._built.values())[: max(0, len(self._built) - self._capacity)]:
                self._leave(surplus)
        self._tidy()

    def _touch(self, instance: Instance) -> None:
        instance.used = steady()
        if self._built.get(instance.pair) is instance:
            self._built.move_to_end(instance.pair)

    def _leave(self, instance: Instance) -> None:
        if self._built.get(instance.pair) is instance:
            del self._built[instance.pair]
        self._leaving.add(instance)

    def _tidy(self) -> None:
        """Retire what is idle, close what is free to go, and come back when the next one may be."""
        now = steady()
        while (oldest := self._oldest()) is not None and now - oldest.used >= self._idle:
            self._leave(oldest)
        for instance in [instance for instance in self._leaving if instance.uses == 0]:
            if now >= instance.lent + self._grace:
                self._close(instance)
        ends = [instance.lent + self._grace for instance in self._leaving if instance.uses == 0]
        if oldest is not None:
            ends.append(oldest.used + self._idle)
        self._arm(min(ends) - now if ends else None)

    def _oldest(self) -> Instance | None:
        """The kept instance that has been out of use for longest."""
        return next((instance for instance in self._built.values() if instance.uses == 0), None)

    def _arm(self, delay: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.01, delay), self._tidy) if delay is not None else None

    def _close(self, instance: Instance) -> None:
        self._leaving.discard(instance)
        task = asyncio.create_task(_closed(instance), name=f"close {instance.pair}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _closed(instance: Instance) -> None:
    """Close one connector; that its code fails or hangs is nobody else's concern."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await instance.connector.aclose()
    except Exception as error:  # noqa: BLE001 - isolation: a connector's bug must not reach other pairs
        log.warning("connector_not_closed", pair=str(instance.pair), error=type(error).__name__)


def _retrieved(task: asyncio.Task[Instance]) -> None:
    """All who waited may have been cancelled; their failure is then nobody's."""
    if not task.cancelled():
        task.exception()
