"""The story of a batch: read what is needed, check every pair, write what was found.

A batch holds its worker until only stragglers are left, and for at most `batch_patience` seconds. Checks that take
longer (a hanging host) end behind it, on the same loop, each at its own deadline; pairs whose turn at their vendor's
host does not come in time are handed back to the schedule, and counted as our lag, never as the vendor's timeout. See
``docs/adr/0013-batches-and-lanes.md``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

import structlog
from structlog.contextvars import bind_contextvars

from registry.bootstrap import Parts
from registry.clock import steady
from registry.connection import AWAY
from registry.facts import count
from registry.logs import checking
from registry.pace import Pace
from registry.recording import Outcome
from registry.schedule import Held, Task
from worker.batch import Batch
from worker.flight import expired, landed
from worker.lags import Lags
from worker.lanes import Found, Lanes
from worker.places import Hosts

log = structlog.get_logger(__name__)

HARVEST_EVERY = 1.0
"""Seconds between two writes of the checks that end behind their batch."""

RUNNING_MOST = 500
"""Checks of one connector that run in a process at a time, or as many as a batch has pairs if that is more.

Each holds a connection, and where nobody may raise the limit a process has 1,024 open files. The places of each host
bound what one host holds, this what thousands of dead hosts hold that have a pair or two each.
"""


class Monitor:
    """Checks batches. One a process; it lives on the process's event loop.

    `lags` is how late its checks were.
    """

    def __init__(self, parts: Parts) -> None:
        settings = parts.settings
        self._parts, self._patience = parts, settings.batch_patience
        self._most = max(RUNNING_MOST, settings.batch_size)
        self._pace = Pace.of(settings)
        self._hosts = Hosts(settings.host_concurrency, self._patience, settings.check_timeout / 2)
        self._running, self._behind = Counter[str](), set[asyncio.Task[None]]()
        self.lags = Lags()

    @property
    def running(self) -> int:
        """How many checks run now."""
        return self._running.total()

    async def check_batch(self, batch: Batch) -> None:
        """Check the pairs of a batch; returns when all but stragglers are recorded, or the batch's patience ends."""
        bind_contextvars(batch=batch.id, connector=batch.connector)
        started = steady()
        claimed = await self._parts.schedule.read(batch.claims)
        if await expired(self._parts, batch, claimed):
            return
        tasks = await self._parts.budgets.admit(await self._with_hope(batch.connector, claimed))
        located = [(self._parts.checker.endpoint(task.scheduled), task) for task in tasks]
        lanes, found = Lanes(located, self._hosts, self._check), list[Found]()
        try:
            await lanes.settle(self._patience)
            lanes.shut()
            found += lanes.harvest()
            await self._record(found, ended=batch, seconds=steady() - started)
        except BaseException:
            await self._abandon(lanes, found)
            raise
        self._hosts.tidy()
        if not lanes.done:
            behind = asyncio.create_task(self._finish(lanes))
            self._behind.add(behind)
            behind.add_done_callback(self._behind.discard)
        log.debug("batch", pairs=len(tasks), late=lanes.open, seconds=steady() - started)

    async def drain(self) -> None:
        """Let the checks behind their batches end (they have deadlines); what is left goes back to the schedule."""
        if self._behind:
            await asyncio.wait(self._behind, timeout=self._parts.settings.check_timeout)
        for behind in list(self._behind):
            behind.cancel()
        await asyncio.gather(*self._behind, return_exceptions=True)

    async def _with_hope(self, connector: str, claimed: Sequence[Task]) -> Sequence[Task]:
        """Hand back for whom there is no room, before a budget is asked for them or anybody waits; returns the others.

        They come again no oftener than that it costs what checks would: being turned away takes half of a check's time.
        """
        rooms, free = self._hosts.rooms(), self._most - self._running[connector]
        if not rooms and free >= len(claimed):
            return claimed
        settings, pairs, lost = self._parts.settings, Counter[str](), set[Held]()
        for task in claimed:
            endpoint = self._parts.checker.endpoint(task.scheduled)
            at_once = pairs[endpoint] < settings.host_concurrency
            if pairs[endpoint] >= rooms.get(endpoint, len(claimed)) or (at_once and free <= 0):
                lost.add(task.held)
            else:
                pairs[endpoint] += 1
                free -= at_once
        await self._hand_back({task.held: self._half(task) for task in claimed if task.held in lost})
        return [task for task in claimed if task.held not in lost]

    def _half(self, task: Task) -> int:
        """Half of an interval, milliseconds: so that they are before those that were checked."""
        return self._pace.at_most(task.pair, task.scheduled.config) // 2

    async def _check(self, task: Task, endpoint: str) -> Found:
        """One pair's check at a host that has a place for it; the task itself when it may not begin any more."""
        checking.set((task.pair.tenant, task.fence))
        started = steady()
        if started > task.begin_until:  # this process stood still, and its place in the budget is over
            return task
        self._running[task.pair.connector] += 1
        self.lags.observe("queue", self._parts.clock.now_ms() - task.fence / 1000)  # a fence is the time of its claim
        try:
            return Outcome(task, await self._parts.checker.check(task.scheduled), endpoint)
        finally:
            self._running[task.pair.connector] -= 1
            self.lags.observe("check", (steady() - started) * 1000)

    async def _finish(self, lanes: Lanes) -> None:
        """Write the checks that end behind their batch, a harvest at a time."""
        late, found = lanes.open, list[Found]()
        try:
            while not lanes.done:
                await lanes.run(HARVEST_EVERY)
                found += lanes.harvest()
                if found:
                    await self._record(found)
                    found.clear()
        except AWAY as error:
            log.warning("results_lost", pairs=late, error=type(error).__name__)
        finally:
            await self._abandon(lanes, found)
            self._hosts.tidy()

    async def _record(self, results: Sequence[Found], ended: Batch | None = None, seconds: float = 0.0) -> None:
        """Write what was found in one round trip, and with it that a batch has `ended` after so many seconds."""
        outcomes = [result for result in results if isinstance(result, Outcome)]
        queued = [result.held for result in results if isinstance(result, Task)]
        async with self._parts.redis.pipeline(transaction=False) as pipe:
            if ended is not None:
                landed(pipe, ended, seconds, self._parts.clock.now_ms())
            await self._parts.recorder.record(outcomes, along=pipe)
        await self._hand_back(dict.fromkeys(queued, int(self._parts.settings.confirm_delay * 1000)))

    async def _hand_back(self, queued: Mapping[Held, int]) -> None:
        """Pairs for which there is no place are due again after so many milliseconds, and are counted as our lag."""
        if queued:
            now = self._parts.clock.now_ms()
            await self._parts.schedule.reschedule({held: now + delay for held, delay in queued.items()})
            async with self._parts.redis.pipeline(transaction=False) as pipe:
                count(pipe, {"released": len(queued)}, now)
                await pipe.execute()

    async def _abandon(self, lanes: Lanes, unwritten: Sequence[Found] = ()) -> None:
        """Stop checks, write what has just ended, and hand the other pairs back; `unwritten` is what failed to be."""
        left = [task.held for task in await lanes.stop()]
        left += [result.held if isinstance(result, Task) else result.task.held for result in unwritten]
        try:
            if found := lanes.harvest():
                await self._record(found)
            if left:
                await self._parts.schedule.release(left)
        except AWAY as error:
            log.warning("claims_left_to_lease", pairs=len(left), error=type(error).__name__)
