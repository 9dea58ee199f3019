"""The story of a batch: read what is needed, check every pair, write what was found.

A batch holds its worker for at most `batch_patience` seconds. Checks that take longer (a hanging vendor) end behind
it, on the same loop; pairs whose turn at their vendor's host does not come in time are handed back to the schedule,
and counted as our lag, never as the vendor's timeout.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable

import structlog
from structlog.contextvars import bind_contextvars

from registry import keys
from registry.bootstrap import Parts
from registry.clock import steady
from registry.connection import AWAY
from registry.ids import Pair
from registry.logs import checking
from registry.recording import Outcome
from registry.schedule import Task
from worker.batch import Batch
from worker.flight import expired, landed
from worker.lags import Lags

log = structlog.get_logger(__name__)

Check = asyncio.Task[Outcome | Pair]

HARVEST_EVERY = 1.0
"""Seconds between two writes of the checks that end behind their batch."""


class Monitor:
    """Checks batches. One a process; it lives on the process's event loop.

    `lags` is how late its checks were, `running` how many run now.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts, self._patience = parts, parts.settings.batch_patience
        limit = parts.settings.host_concurrency
        self._gates: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(limit))
        self._behind: set[asyncio.Task[None]] = set()
        self.lags, self.running = Lags(), 0

    async def check_batch(self, batch: Batch) -> None:
        """Check the pairs of a batch; returns when all are recorded, or the batch's patience ends."""
        bind_contextvars(batch=batch.id, connector=batch.connector)
        started = steady()
        claimed = await self._parts.schedule.read(batch.claims)
        if await expired(self._parts, batch):
            return
        tasks = await self._parts.budgets.admit(claimed)
        checks = {asyncio.create_task(self._check(task), name=str(task.pair)) for task in tasks}
        try:
            done, late = await _wait(checks, self._patience)
            await self._record(done, ended=batch, seconds=steady() - started)
        except BaseException:
            await self._abandon(checks)
            raise
        if late:
            behind = asyncio.create_task(self._finish(late))
            self._behind.add(behind)
            behind.add_done_callback(self._behind.discard)
        log.debug("batch", pairs=len(tasks), late=len(late), seconds=steady() - started)

    async def drain(self) -> None:
        """Let the checks behind their batches end (they have deadlines); what is left goes back to the schedule."""
        if self._behind:
            await asyncio.wait(self._behind, timeout=self._parts.settings.check_timeout)
        for behind in list(self._behind):
            behind.cancel()
        await asyncio.gather(*self._behind, return_exceptions=True)

    async def _check(self, task: Task) -> Outcome | Pair:
        """One pair's check, once its vendor's host has a place; the pair itself when there was none in time."""
        checking.set((task.pair.tenant, task.fence))
        checker = self._parts.checker
        endpoint = checker.endpoint(task.scheduled)
        gate = self._gates[endpoint]
        try:
            if gate.locked():
                async with asyncio.timeout(self._patience):
                    await gate.acquire()
            else:
                await gate.acquire()
        except TimeoutError:
            return task.pair
        if steady() > task.begin_until:  # this process stood still, and its place in the budget is over
            gate.release()
            return task.pair
        started, self.running = steady(), self.running + 1
        self.lags.observe("queue", self._parts.clock.now_ms() - task.fence / 1000)  # a fence is the time of its claim
        try:
            return Outcome(task, await checker.check(task.scheduled), endpoint)
        finally:
            gate.release()
            self.running -= 1
            self.lags.observe("check", (steady() - started) * 1000)

    async def _finish(self, checks: Collection[Check]) -> None:
        """Write the checks that end behind their batch, a harvest at a time."""
        late = set(checks)
        try:
            while late:
                done, late = await _wait(late, HARVEST_EVERY)
                await self._record(done)
        except AWAY as error:
            log.warning("results_lost", pairs=len(checks), error=type(error).__name__)
        finally:
            await self._abandon(late)

    async def _record(self, done: Iterable[Check], ended: Batch | None = None, seconds: float = 0.0) -> None:
        """Write what was found in one round trip, and with it that a batch has `ended` after so many seconds."""
        results = [check.result() for check in done]
        outcomes = [result for result in results if isinstance(result, Outcome)]
        queued = [result for result in results if isinstance(result, Pair)]
        async with self._parts.redis.pipeline(transaction=False) as pipe:
            if ended is not None:
                landed(pipe, ended, seconds, self._parts.clock.now_ms())
            await self._parts.recorder.record(outcomes, along=pipe)
        if queued:
            await self._parts.schedule.release(queued, delay=self._parts.settings.confirm_delay)
            await self._parts.redis.hincrby(keys.PLATFORM, "released", len(queued))

    async def _abandon(self, checks: Iterable[Check]) -> None:
        """Stop checks and hand their pairs back."""
        open_checks = [check for check in checks if not check.done()]
        for check in open_checks:
            check.cancel()
        await asyncio.gather(*open_checks, return_exceptions=True)
        if open_checks:
            try:
                await self._parts.schedule.release([Pair.parse(check.get_name()) for check in open_checks])
            except AWAY as error:
                log.warning("claims_left_to_lease", pairs=len(open_checks), error=type(error).__name__)


async def _wait(checks: set[Check], timeout: float) -> tuple[set[Check], set[Check]]:
    return await asyncio.wait(checks, timeout=timeout) if checks else (set(), set())
