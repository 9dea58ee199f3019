"""The Celery app: settings become its configuration, signals give every child process its runtime."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from celery import Celery, signals

from beat_schedule import beat_schedule
from registry import keys
from registry.connection import AWAY
from registry.logs import configure_logs
from registry.settings import Settings, load_settings
from worker.events.deliver import Deliverer
from worker.events.gather import Gatherer
from worker.events.telling import Rules
from worker.events.webhooks import load_webhooks
from worker.monitor import Monitor
from worker.open_files import raise_limit
from worker.owner import owner
from worker.runtime import Runtime
from worker.turning import Turning, role_of, turn

if TYPE_CHECKING:
    from celery.worker import WorkController

    from registry.bootstrap import Parts

SIGN_OF_LIFE = 5.0
"""Seconds between two signs of life of a check process."""

FORGOTTEN_MS = 60_000
"""A check process that has not been heard of for so long is taken from the list of those alive."""

settings: Settings = load_settings()

PUBLISH_LIMIT = max(30.0, min(2 * settings.publish_every, 1_800.0))
"""Seconds one publish may take: as long as its lease lasts, for a million pairs take longer than any other task."""

app = Celery("connectors", include=["worker.tasks"])
app.conf.update(
    broker_url=settings.broker_url,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,  # a Redis that refuses writes (read-only, out of memory) ends no worker
    broker_transport_options={
        # kombu sets no socket timeout of its own and would wait for ever on a half-open connection
        "socket_timeout": 5.0,
        "socket_connect_timeout": 5.0,
        "socket_keepalive": True,
        "health_check_interval": 2,
        "visibility_timeout": 3600,
        "master_name": settings.broker_master,
        "sentinel_kwargs": {"socket_timeout": 5.0, "socket_connect_timeout": 5.0},
    },
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_acks_late=False,  # the next tick is the retry
    task_soft_time_limit=30,
    task_time_limit=40,
    task_annotations={"publish": {"soft_time_limit": PUBLISH_LIMIT, "time_limit": PUBLISH_LIMIT + 10}},
    task_default_queue="dispatch",
    task_routes={
        "check_batch": {"queue": "checks"},
        "publish": {"queue": "publish"},
        "reconcile": {"queue": "publish"},
        "detect_incidents": {"queue": "publish"},
        "read_status_pages": {"queue": "publish"},
        "tell": {"queue": "publish"},
        "pulse": {"queue": "publish"},
        "export_cloud_monitoring": {"queue": "publish"},
    },
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_soft_shutdown_timeout=15.0,
    worker_max_tasks_per_child=50_000,
    worker_proc_alive_timeout=30.0,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=True,
    worker_send_task_events=False,
    # a schedule file could be torn by a kill; static entries need no memory of their last run
    beat_scheduler="worker.turning:BeatingScheduler",
    beat_max_loop_interval=1,
    beat_schedule=beat_schedule(settings),
    worker_consumer="worker.turning:BeatingConsumer",
)
app.steps["worker"].add(Turning)


class _Process:
    """What belongs to this process. `queues` is set before the fork, the rest after it."""

    queues: frozenset[str] = frozenset()
    runtime: Runtime | None = None
    monitor: Monitor | None = None
    tellers: tuple[Gatherer, Deliverer] | None = None


def runtime() -> Runtime:
    """This process's event loop and parts, made at the first call after a fork."""
    if _Process.runtime is None or _Process.runtime.pid != os.getpid():
        _Process.runtime = Runtime(settings)
        _Process.monitor = Monitor(_Process.runtime.parts)
        _Process.tellers = None
    return _Process.runtime


def monitor() -> Monitor:
    """This process's monitor; it lives on the runtime's loop."""
    runtime()
    assert _Process.monitor is not None  # noqa: S101 - runtime() has just made it
    return _Process.monitor


def tellers() -> tuple[Gatherer, Deliverer]:
    """Who finds, in this process, what is to be told to webhooks, and who sends it; on the runtime's loop."""
    parts = runtime().parts
    if _Process.tellers is None:
        webhooks = load_webhooks(settings.webhooks_file, parts.catalog.list())
        gatherer = Gatherer(parts, Rules.of(settings), webhooks)
        _Process.tellers = gatherer, Deliverer(parts, webhooks, source=settings.webhooks_source, owner=owner())
    return _Process.tellers


@signals.setup_logging.connect
def _logging(**_: object) -> None:
    configure_logs(settings)


@signals.worker_init.connect
def _remember_queues(sender: WorkController, **_: object) -> None:
    _Process.queues = frozenset(sender.app.amqp.queues.consume_from)


@signals.worker_process_init.connect
def _start(**_: object) -> None:
    raise_limit()
    checks, parts = "checks" in _Process.queues, runtime().parts
    runtime().start(turn(role_of(_Process.queues), monitor().lags))
    runtime().start(_live(parts, monitor(), checks=checks))
    if checks:
        runtime().start(parts.announcements.follow())


@signals.worker_process_shutdown.connect
def _stop(**_: object) -> None:
    if _Process.runtime is not None and _Process.monitor is not None:
        _Process.runtime.close(_Process.monitor.drain, _stop_telling, _leave)


async def _live(parts: Parts, monitor: Monitor, *, checks: bool) -> None:
    """For as long as this child lives, tell what it has observed, and tell `dispatch` that a check process is there."""
    while True:
        with suppress(*AWAY):  # when Redis is away everything else says so; the next sign comes soon
            now = parts.clock.now_ms()
            await monitor.lags.flush(parts.redis, now)
            if checks:
                async with parts.redis.pipeline(transaction=False) as pipe:
                    pipe.zadd(keys.CHILDREN, {owner(): now})
                    pipe.hset(keys.RUNNING, owner(), str(monitor.running))
                    pipe.zrange(keys.CHILDREN, "-inf", str(now - FORGOTTEN_MS), byscore=True)
                    *_, dead = await pipe.execute()
                await _forget(parts, dead)
        await asyncio.sleep(SIGN_OF_LIFE)


async def _stop_telling() -> None:
    if _Process.tellers is not None:
        await _Process.tellers[1].aclose()


async def _leave() -> None:
    """The last sign of life."""
    parts = runtime().parts
    with suppress(*AWAY):
        await monitor().lags.flush(parts.redis, parts.clock.now_ms())
        await _forget(parts, [owner()])


async def _forget(parts: Parts, children: Sequence[str | bytes]) -> None:
    if children:
        async with parts.redis.pipeline(transaction=False) as pipe:
            pipe.zrem(keys.CHILDREN, *children)
            pipe.hdel(keys.RUNNING, *children)
            await pipe.execute()
