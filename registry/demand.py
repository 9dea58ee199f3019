"""A check because somebody asks for it now: made once, whoever else asks, in this process or another."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from registry import keys
from registry.connection import LockError
from registry.errors import SecretNotFound
from registry.health import HealthStatus, Reason
from registry.ids import Pair
from registry.record import absent, seen, seen_alone
from registry.recording import Outcome

if TYPE_CHECKING:
    from registry.bootstrap import Parts

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
        parts, timeout = self._parts, self._parts.settings.check_timeout
        lock = parts.redis.lock(keys.lock(parts.schedule.shard(pair), pair), timeout=timeout + 2, blocking=False)
        if not await lock.acquire():
            return await self._wait(pair, before, timeout)
        try:
            status = await parts.cache.status(pair)
            return status if status.version != before.version else await self._check_now(pair)
        finally:
            with suppress(LockError):  # it expired: nothing is ours to give back
                await lock.release()

    async def _check_now(self, pair: Pair) -> HealthStatus:
        parts = self._parts
        task = await parts.schedule.task(pair)
        if task is None:
            return absent(pair, Reason.NOT_CONFIGURED, parts.clock.now_ms())
        verdict = await parts.checker.check(task.scheduled)
        if verdict.metadata.get("error") == SecretNotFound.__name__:
            # The secret is not to be had in this process; whether the workers have it, only they can tell.
            return seen_alone(pair, verdict, parts.clock.now_ms())
        outcome = Outcome(task, verdict, parts.checker.endpoint(task.scheduled))
        record = (await parts.recorder.record([outcome])).get(pair)
        return seen(pair, record, parts.clock.now_ms()) if record else await parts.cache.status(pair)

    async def _wait(self, pair: Pair, before: HealthStatus, timeout: float) -> HealthStatus:
        status = before
        try:
            async with asyncio.timeout(timeout + 2):
                while status.version == before.version:
                    await asyncio.sleep(POLL)
                    status = await self._parts.cache.status(pair)
        except TimeoutError:
            pass  # the other process died or is slow: what the cache says, stale as it may be, is the answer
        return status
