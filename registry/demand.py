"""A check because somebody asks for it now: made once, whoever else asks, in this process or another."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from registry import keys
from registry.clock import steady
from registry.connection import AWAY
from registry.errors import CacheUnavailable, SecretNotFound
from registry.health import HealthStatus, Reason
from registry.ids import Pair
from registry.record import absent, seen, seen_alone
from registry.recording import Outcome
from registry.schedule import Scheduled, Task

if TYPE_CHECKING:
    from redis.asyncio.lock import Lock

    from registry.bootstrap import Parts
    from registry.connector import ConnectorConfig

HOLD = 10.0
"""Seconds after which the lock of a process that died in a check is free; who lives holds on to it."""

POLL = 0.02
"""Seconds between two looks at the cache while another process makes the check we wait for."""


class Demand:
    """Checks pairs on demand."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def check(self, pair: Pair, before: HealthStatus) -> HealthStatus:
        """Make the check, unless another process is at it or has just done it: then its result is the answer.

        Args:
            before: what is to be replaced by something newer.
        """
        parts, status = self._parts, before
        lock = parts.redis.lock(keys.lock(parts.schedule.shard(pair), pair), timeout=HOLD, blocking=False)
        try:
            async with asyncio.timeout(parts.checker.longest):
                while not await lock.acquire():
                    await asyncio.sleep(POLL)
                    status = await parts.cache.status(pair)
                    if status.version != before.version:
                        return status
        except TimeoutError:
            return status  # the other process is slow: what the cache says, stale as it may be, is the answer
        except AWAY:
            return status  # without a lock there would be many checks, and nobody would hear of this one
        holding = asyncio.create_task(_hold(lock))
        try:
            status = await parts.cache.status(pair)
            return status if status.version != before.version else await self._check_now(pair, status)
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
            with suppress(*AWAY):  # it has expired, or ends by itself: the check is done
                await lock.release()

    async def try_out(self, pair: Pair, config: ConnectorConfig) -> HealthStatus:
        """What a check of a configuration that is stored nowhere says; it takes from the budgets like any other.

        Raises:
            CacheUnavailable: what is left of the budgets cannot be told.
        """
        parts = self._parts
        try:
            admitted = await self._admitted(Task(Scheduled(pair, 0, config), None, 0))
        except AWAY as error:
            raise CacheUnavailable(f"Redis did not answer ({type(error).__name__}): no budget, no check") from error
        if isinstance(admitted, int):
            return replace(absent(pair, Reason.NOT_CHECKED, parts.clock.now_ms()), put_off_until_ms=admitted)
        return seen_alone(pair, await parts.checker.try_out(pair, config), parts.clock.now_ms())

    async def _check_now(self, pair: Pair, status: HealthStatus) -> HealthStatus:
        parts = self._parts
        try:
            task = await parts.schedule.task(pair)
            if task is None:
                return absent(pair, Reason.NOT_CONFIGURED, parts.clock.now_ms())
            admitted = await self._admitted(task)
        except AWAY:
            return status  # no budget, no check
        if isinstance(admitted, int):
            return replace(await parts.cache.status(pair), put_off_until_ms=admitted)
        verdict = await parts.checker.check(task.scheduled)
        if verdict.metadata.get("error") == SecretNotFound.__name__:
            # The secret is not to be had in this process; whether the workers have it, only they can tell.
            return seen_alone(pair, verdict, parts.clock.now_ms())
        outcome = Outcome(admitted, verdict, parts.checker.endpoint(task.scheduled))
        try:
            record = (await parts.recorder.record([outcome])).get(pair)
        except AWAY:  # or it takes no writes: who asked is told what was found, and nobody else
            return seen_alone(pair, verdict, parts.clock.now_ms())
        return seen(pair, record, parts.clock.now_ms()) if record else await parts.cache.status(pair)

    async def _admitted(self, task: Task) -> Task | int:
        """As `Budgets.admit_now`; anew when this process stood still, and its place in the budget is over."""
        while True:
            admitted = await self._parts.budgets.admit_now(task)
            if isinstance(admitted, int) or steady() <= admitted.begin_until:
                return admitted


async def _hold(lock: Lock) -> None:
    """Keep a lock for as long as the check takes."""
    while True:
        await asyncio.sleep(HOLD / 4)
        with suppress(*AWAY):  # a Redis that is away for longer has lost the lock, and `LockError` is one of these
            await lock.reacquire()
