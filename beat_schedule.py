"""The schedule of the background work, as data: one entry a task, none a tenant.

Every entry expires, so that a queue without workers stays bounded. Two beats may run: a duplicated tick does no harm,
and neither does a late one: a worker skips what it has just done (`worker.ticks`).
"""

from __future__ import annotations

from typing import TypedDict

from registry.settings import Settings

TICK_LIFE = 7200.0
"""Seconds a tick may wait for its worker. Celery judges that by the wall clocks of two machines: these may differ by as
much, or a worker would throw every tick away."""


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
