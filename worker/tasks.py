"""The Celery tasks. Thin: each hands a coroutine of the project's own to this process's event loop."""

from __future__ import annotations

from worker.app import app, monitor, runtime, tellers
from worker.batch import Batch, BatchMessage
from worker.dispatch import dispatch
from worker.housekeeping import (
    detect_incidents,
    export_cloud_monitoring,
    publish,
    pulse,
    read_status_pages,
    reconcile,
    tell,
)
from worker.owner import owner
from worker.ticks import begin


def begins(task: str) -> bool:
    """Is this tick of `task` worth doing?"""
    return runtime().run(begin(runtime().parts, task))


@app.task(name="dispatch")
def dispatch_task() -> None:
    """Claim what is due and send it out in batches."""
    if not begins("dispatch"):
        return
    with app.producer_pool.acquire(block=True) as producer:

        def send(batch: Batch) -> None:
            check_batch_task.apply_async((batch.message(),), producer=producer)

        runtime().run(dispatch(runtime().parts, send))


@app.task(name="check_batch")
def check_batch_task(message: BatchMessage) -> None:
    """Check the pairs of one batch."""
    runtime().run(monitor().check_batch(Batch.read(message)))


@app.task(name="publish")
def publish_task() -> None:
    """Push the gauges, if this process is the publisher."""
    if begins("publish"):
        runtime().run(publish(runtime().parts, owner()))


@app.task(name="reconcile")
def reconcile_task() -> None:
    """Bring the configuration store's changes into the schedule."""
    if begins("reconcile"):
        runtime().run(reconcile(runtime().parts, owner()))


@app.task(name="detect_incidents")
def detect_incidents_task() -> None:
    """Find one cause behind many pairs' failures."""
    if begins("detect_incidents"):
        runtime().run(detect_incidents(runtime().parts, owner()))


@app.task(name="read_status_pages")
def read_status_pages_task() -> None:
    """Read what the vendors say of themselves."""
    if begins("read_status_pages"):
        runtime().run(read_status_pages(runtime().parts, owner()))


@app.task(name="tell")
def tell_task() -> None:
    """Tell the webhooks what has happened."""
    if begins("tell"):
        runtime().run(tell(runtime().parts, *tellers(), owner()))


@app.task(name="pulse")
def pulse_task() -> None:
    """Tell somebody outside whether the monitor works. Nobody waits for their answer."""
    if begins("pulse"):
        runtime().start(pulse(runtime().parts, owner()))


@app.task(name="export_cloud_monitoring")
def export_cloud_monitoring_task() -> None:
    """Write to Cloud Monitoring, if this process is the one to do so. Nobody waits for Google's answer."""
    if begins("export_cloud_monitoring"):
        runtime().start(export_cloud_monitoring(runtime().parts, owner()))
