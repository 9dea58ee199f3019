"""Where work loops turn: beat's ticks, the consumer of a worker, the event loop of a worker's child.

The consumer waits for its broker in another loop than the one it works in, and beat waits for it before its first
tick: both turn there too, so that no probe ends a process that only waits for Redis.
"""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING, Any

import structlog
from celery import bootsteps
from celery.beat import Scheduler
from celery.worker import state
from celery.worker.consumer.consumer import Consumer

from registry.clock import steady
from registry.settings import load_settings
from worker.heartbeat import CHILD, EVERY, ROLES, Heartbeat
from worker.lags import LOOP, Lags

if TYPE_CHECKING:
    from collections.abc import Collection

    from celery.worker import WorkController
    from kombu import Connection

log = structlog.get_logger(__name__)


class _Process:
    """The heartbeat of this process, from its first turn on; a forked beat finds its worker's and makes its own."""

    heartbeat: Heartbeat | None = None


def role_of(queues: Collection[str]) -> str:
    """The role of a worker that consumes `queues`: the first of `ROLES` among them."""
    return next((role for role in ROLES if role in queues), "dispatch")


def heartbeat(role: str) -> Heartbeat | None:
    """A heartbeat for this process; None when its directory cannot be written, which only a probe has to mind."""
    directory = load_settings().heartbeat_dir
    try:
        return Heartbeat(directory, role)
    except OSError as error:
        log.warning("no_heartbeat", role=role, directory=str(directory), error=error.strerror)
        return None


def _ours() -> Heartbeat | None:
    return _Process.heartbeat if _Process.heartbeat and _Process.heartbeat.ours else None


def _turned() -> None:
    if beating := _ours():
        beating.beat()


def _waiting(error: Exception, seconds: float) -> None:
    log.warning("broker_away", error=f"{type(error).__name__}: {error}", again_in=seconds)


SET_BACK = 1.0
"""Seconds by which the wall clock goes back at once when it is set back; being put right slowly is less."""


class BeatingScheduler(Scheduler):
    """Celery's scheduler in memory, with a heartbeat at every tick.

    Celery reckons with the wall clock: set back by an hour, it would wait for an hour. Here it begins anew then.
    """

    _ahead: float = -inf
    """Seconds by which the wall clock was ahead of the steady one at the last tick."""

    def tick(self, *args: Any, **options: Any) -> float:  # whatever Celery's own takes
        """One turn; returns the seconds until the next."""
        _Process.heartbeat = _ours() or heartbeat("beat")
        _turned()
        before, self._ahead = self._ahead, time.time() - steady()
        if self._ahead < before - SET_BACK:
            self._begin_anew(before - self._ahead)
        return float(super().tick(*args, **options))

    def _begin_anew(self, seconds: float) -> None:
        log.warning("wall_clock_set_back", by_seconds=seconds)
        self.schedule.clear()
        self.setup_schedule()
        self._heap = None

    def _ensure_connected(self) -> Connection:  # private, but the only place where beat waits without end
        return self.connection.ensure_connection(_waiting, callback=_turned)


class BeatingConsumer(Consumer):
    """Celery's consumer, with a heartbeat while it tries to reach the broker."""

    def ensure_connected(self, conn: Connection) -> Connection:
        """Wait until the broker answers."""

        def turned() -> None:
            _turned()
            state.maybe_shutdown()

        conn.ensure_connection(_waiting, callback=turned)
        return super().ensure_connected(conn)


class Turning(bootsteps.StartStopStep):
    """A step of every worker: a heartbeat from the timer of the very loop that receives tasks."""

    requires = ("celery.worker.components:Timer",)

    def start(self, parent: WorkController) -> None:
        """The worker starts."""
        _Process.heartbeat = heartbeat(role_of(parent.app.amqp.queues.consume_from))
        timer: Any = parent.timer  # Celery's stubs name the step that makes it
        timer.call_repeatedly(EVERY, _turned)


async def turn(role: str, lags: Lags) -> None:
    """A heartbeat for as long as this child's event loop turns, and how late it turns."""
    beating = heartbeat(role + CHILD)
    while True:
        if beating:
            beating.beat()
        asleep = steady()
        await asyncio.sleep(EVERY)
        lags.observe(LOOP, (steady() - asleep - EVERY) * 1000)
