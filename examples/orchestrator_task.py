"""A Celery task of an orchestrator that goes where it works: the group ``chat`` is tried in order of preference.

``celery --app examples.orchestrator_task worker`` runs it; ``notify.delay("acme-01", "deployed")`` sends it.
"""

from __future__ import annotations

from functools import cache

from celery import Celery, Task

from registry import HealthView
from registry.settings import load_settings

settings = load_settings()
app = Celery("orchestrator", broker=settings.broker_url, backend=settings.broker_url)
app.conf.task_default_queue = "orchestrator"
CHAT = settings.route_groups.get("chat", ("slack", "linear"))


@cache
def health() -> HealthView:
    """This process's reader, made when a task first needs it: after the fork, never at import."""
    return HealthView(settings.redis_url, timeout=settings.read_timeout, shards=settings.shards)


@app.task(bind=True, max_retries=10)
def notify(self: Task[[str, str], str], tenant_id: str, text: str) -> str:
    """Send `text` through the first connector of the group that works for this tenant now."""
    route = health().route(CHAT, tenant_id)
    if route.connector is None:
        raise self.retry(countdown=30, exc=RuntimeError(route.explanation))
    return f"{route.connector}: {text}"  # here the connector's own client would send it
