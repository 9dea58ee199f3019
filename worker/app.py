"""The Celery app: settings become its configuration, signals give every child process its runtime."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from celery import Celery, signals

from beat_schedule import beat_schedule
from registry import keys
from registry.connection import AWAY
from registry.logs import configure_logs
from registry.settings import Settings, load_settings
from worker.monitor import Monitor
from worker.runtime import Runtime

if TYPE_CHECKING:
    from celery.worker import WorkController

    from registry.bootstrap import Parts

SIGN_OF_LIFE = 5.0
"""Seconds between two signs of life of a check process."""

settings: Settings = load_settings()
app = Celery("connectors", include=["worker.tasks"])
app.conf.update(
    broker_url=settings.broker_url,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        # kombu sets no socket timeout of its own and would wait for ever on a half-open connection
        "socket_timeout": 5.0,
        "socket_connect_timeout": 5.0,
        "socket_keepalive": True,
        "health_check_interval": 2,
        "visibility_timeout": 3600,
    },
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_acks_late=False,  # the next tick is the retry
    task_soft_time_limit=30,
    task_time_limit=40,
    task_default_queue="dispatch",
    task_routes={
        "check_batch": {"queue": "checks"},
        "publish": {"queue": "publish"},
        "reconcile": {"queue": "publish"},
        "detect_incidents": {"queue": "publish"},
        "read_status_pages": {"queue": "publish"},
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
    beat_scheduler="celery.beat:Scheduler",
    beat_max_loop_interval=1,
    beat_schedule=beat_schedule(settings),
)


class _Process:
    """What belongs to this process. `queues` is set before the fork, the rest after it."""

    queues: frozenset[str] = frozenset()
    runtime: Runtime | None = None
    monitor: Monitor | None = None


def runtime() -> Runtime:
    """This process's event loop and parts, made at the first call after a fork."""
    if _Process.runtime is None or _Process.runtime.pid != os.getpid():
        _Process.runtime = Runtime(settings)
        _Process.monitor = Monitor(_Process.runtime.parts)
    return _Process.runtime


def monitor() -> Monitor:
    """This process's monitor; it lives on the runtime's loop."""
    runtime()
    assert _Process.monitor is not None  # noqa: S101 - runtime() has just made it
    return _Process.monitor


def owner() -> str:
    """This process's name in leases and signs of life; unique among those alive."""
    return f"{socket.gethostname()}:{os.getpid()}"


@signals.setup_logging.connect
def _logging(**_: object) -> None:
    configure_logs(settings)


@signals.worker_init.connect
def _remember_queues(sender: WorkController, **_: object) -> None:
    _Process.queues = frozenset(sender.app.amqp.queues.consume_from)


@signals.worker_process_init.connect
def _start(**_: object) -> None:
    if "checks" in _Process.queues:
        parts = runtime().parts
        runtime().start(_live(parts))
        runtime().start(parts.announcements.follow())


@signals.worker_process_shutdown.connect
def _stop(**_: object) -> None:
    if _Process.runtime is not None and _Process.monitor is not None:
        _Process.runtime.close(_Process.monitor.drain)


async def _live(parts: Parts) -> None:
    """Tell `dispatch`, for as long as this check process lives, that it is there."""
    while True:
        with suppress(*AWAY):  # when Redis is away everything else says so; the next sign comes soon
            await parts.redis.zadd(keys.CHILDREN, {owner(): parts.clock.now_ms()})
        await asyncio.sleep(SIGN_OF_LIFE)
