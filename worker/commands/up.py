"""``connectors up``: the whole system on one machine, with what the environment leaves open brought along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Demo = Annotated[bool, typer.Option("--demo", help="Bring demo vendors and demo tenants, at the demo's pace.")]
DemoTenants = Annotated[int, typer.Option("--demo-tenants", min=1, max=1000, metavar="N", help="How many of them.")]
File = Annotated[Path | None, typer.Option("--tenants", metavar="FILE", help="Import this tenants file first.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return when it runs; `connectors down` ends it.")]
Interval = Annotated[float | None, typer.Option(metavar="S", min=1, help="Seconds between checks (CHECK_INTERVAL).")]


def up(
    *,
    demo: Demo = False,
    demo_tenants: DemoTenants = 25,
    tenants: File = None,
    detach: Detach = False,
    interval: Interval = None,
) -> None:
    """Run everything: Redis, Pushgateway, beat, workers, /metrics, and a live table of everybody's health.

    What the environment names (REDIS_URL, PUSHGATEWAY_URL, CONFIG_STORE, …) is used; what it does not is brought
    along, with its data in .run. Ctrl-C ends every process. Exit code: 0 ended as asked, 1 something failed, 2 it
    runs here already, or bad input: then nothing was started.
    """
    import asyncio

    from worker.commands.exits import BadInput
    from worker.local.directory import RunDirectory, RunLock
    from worker.local.leftovers import end
    from worker.local.run import Asked, run

    directory = RunDirectory.here()
    directory.prepare()
    lock = RunLock(directory)
    if not lock.take():
        raise BadInput(f"it runs here already (process {lock.holder()}): `connectors down` ends it")
    try:
        end(directory, patience=5)  # what a killed run has left
        directory.clean()
        directory.prepare()
        asked = Asked(demo_tenants if demo else None, tenants, interval, detach=detach)
        code = asyncio.run(run(directory, lock, asked))
    except BaseException:
        directory.clean()
        lock.release()
        raise
    lock.release(passed_on=detach)
    raise typer.Exit(code)
