"""The schedule of the background work, as data: one entry a task, none a tenant.

Every entry expires, so that a worker that was stopped for long finds a short backlog of ticks. Two beats may run: a
duplicated tick does no harm, and neither does a late one.
"""

from __future__ import annotations

from typing import TypedDict

from registry.settings import Settings

TICK_LIFE = 60.0
"""Seconds a tick may wait for its worker. The clocks of two machines may differ by as much, and what a slow Redis
delays is still done: if a tick ended with its own turn, a worker that is behind would only ever throw ticks away."""


class Entry(TypedDict):
    """An entry of Celery's ``beat_schedule``; `schedule` is in seconds."""

    task: str
    schedule: float
    options: dict[str, str | float]


def beat_schedule(settings: Settings) -> dict[str, Entry]:
    """The entries, paced by `settings`."""
    entries = {
        "dispatch": _every(settings.dispatch_every, "dispatch", queue="dispatch"),
        "publish": _every(settings.publish_every, "publish", queue="publish"),
        "detect_incidents": _every(settings.incidents_every, "detect_incidents", queue="publish"),
        "reconcile": _every(settings.reconcile_every, "reconcile", queue="publish"),
    }
    if settings.status_pages_every:
        entries["read_status_pages"] = _every(settings.status_pages_every, "read_status_pages", queue="publish")
    if settings.webhooks_file:
        entries["tell"] = _every(settings.webhooks_every, "tell", queue="publish")
    if settings.heartbeat_url:
        entries["pulse"] = _every(settings.heartbeat_every, "pulse", queue="publish")
    if settings.cloud_monitoring_project:
        entries["export_cloud_monitoring"] = _every(
            settings.cloud_monitoring_every, "export_cloud_monitoring", queue="publish"
        )
    return entries


def _every(seconds: float, task: str, *, queue: str) -> Entry:
    return {"task": task, "schedule": seconds, "options": {"queue": queue, "expires": max(seconds, TICK_LIFE)}}
