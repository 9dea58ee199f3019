"""``connectors status``: does the system run here, and what of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from worker.commands.exits import Exit
from worker.commands.options import AsJson

if TYPE_CHECKING:
    import psutil

    from registry.settings import Settings
    from worker.local.directory import RunDirectory


def status(*, as_json: AsJson = False) -> None:
    """Show the processes that `connectors up` runs in this directory, what they are at, and where to reach them.

    Exit code: 0 all run, 1 one is missing or a killed run has left some, 3 nothing runs here.
    """
    from registry.settings import load_settings
    from worker.commands.printing import note, print_json
    from worker.local.directory import RunDirectory, RunLock
    from worker.local.leftovers import processes

    directory, settings = RunDirectory.here(), load_settings()
    holder = RunLock(directory).holder()
    rows = _rows(directory) if holder is not None else []
    work = _work() if holder is not None else None
    left = 0 if holder is not None else len(list(processes(directory)))
    if as_json:
        addresses = {
            "api": settings.api_url,
            "metrics": settings.metrics_url,
            "pushgateway": settings.pushgateway_address,
        }
        print_json(
            {
                "running": holder is not None,
                "pid": holder,
                "left": left,
                "processes": rows,
                "urls": addresses,
                "work": work,
            }
        )
    elif holder is None and left:
        note(f"{left} processes of a killed run are left: `connectors down` ends them, and so does `connectors up`")
    elif holder is None:
        note(f"nothing runs in {directory.path.parent}: start it with `connectors up`")
    else:
        _show(rows, holder, settings, work)
    if holder is None:
        raise typer.Exit(Exit.PROBLEM if left else Exit.UNKNOWN)
    raise typer.Exit(Exit.PROBLEM if any(row["pid"] is None for row in rows) else Exit.OK)


def missing(directory: RunDirectory) -> list[str]:
    """The supervised processes that do not run at the moment."""
    return [str(row["name"]) for row in _rows(directory) if row["pid"] is None]


def _rows(directory: RunDirectory) -> list[dict[str, object]]:
    from worker.local.leftovers import by_name
    from worker.local.supervision import names

    running = by_name(directory)
    return [_row(directory, name, running.get(name, [])) for name in names(directory)]


def _row(directory: RunDirectory, name: str, group: Sequence[psutil.Process]) -> dict[str, object]:
    import psutil

    row: dict[str, object] = {"name": name, "pid": None, "children": 0, "up_seconds": None, "rss_bytes": None}
    try:
        if group:
            row |= {
                "pid": group[0].pid,
                "children": len(group) - 1,
                "up_seconds": round(time.time() - group[0].create_time()),
                "rss_bytes": sum(process.memory_info().rss for process in group),
            }
    except psutil.NoSuchProcess:
        pass  # it ended while we looked
    return row | {"log": str(directory.log(name))}


def _work() -> dict[str, object] | None:
    """What all check processes on this Redis are at; None when Redis does not answer."""
    from registry.errors import CacheUnavailable
    from worker.commands.session import with_parts
    from worker.lags import LOOP, STAGES, quantile
    from worker.snapshot import platform_snapshot

    try:
        snapshot = with_parts(platform_snapshot)
    except CacheUnavailable:
        return None
    pairs, due = (sum(counts) for counts in zip(*snapshot.depth.values(), strict=True))
    return {
        "check_processes": snapshot.children,
        "pairs": pairs,
        "due": due,
        "batches_in_flight": sum(snapshot.in_flight.values()),
        "checks_in_flight": snapshot.running,
        "queues": dict(snapshot.queues),
        "lag_p95_seconds": {what: quantile(snapshot.recent, what, 0.95) for what in (*STAGES, LOOP)},
    }


def _show(
    rows: Sequence[dict[str, object]], holder: int, settings: Settings, work: Mapping[str, object] | None
) -> None:
    from rich.table import Table

    from worker.commands.printing import console
    from worker.commands.table import duration

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("process", "pid", "children", "up", "MB", "log"):
        table.add_column(title, overflow="fold")
    for row in rows:
        if row["pid"] is None:
            table.add_row(str(row["name"]), "not running", "", "", "", str(row["log"]))
        else:
            up, size = float(str(row["up_seconds"])), float(str(row["rss_bytes"])) / 1e6
            table.add_row(
                str(row["name"]), str(row["pid"]), str(row["children"]), duration(up), f"{size:.0f}", str(row["log"])
            )
    screen = console()
    screen.print(f"running, ended by process {holder} or `connectors down`")
    screen.print(table)
    for name, value in (work or {"Redis": "does not answer"}).items():
        told = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, Mapping) else value
        screen.print(f"{name.replace('_', ' ')}: {told}")
    screen.print(f"API and dashboard: {settings.api_url}")
    screen.print(f"/metrics: {settings.metrics_url}")
    screen.print(f"Pushgateway: {settings.pushgateway_address or 'none'}")
