"""``connectors history``: what one connector of one tenant has been like."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import typer

from worker.commands.options import AsJson, Connector, Tenant

if TYPE_CHECKING:
    from registry.bootstrap import Parts
    from registry.history import History, Latency, Window


def history(connector: Connector, *, tenant: Tenant, as_json: AsJson = False) -> None:
    """Show uptime, latency and the last transitions of one connector of one tenant. Never calls a vendor.

    Exit code: 0 shown, 2 no such connector, 3 nothing was kept yet.
    """
    from worker.commands.exits import Exit
    from worker.commands.printing import note, print_json
    from worker.commands.session import with_parts

    async def work(parts: Parts) -> History:
        from registry.facade import ConnectorRegistry

        return await ConnectorRegistry(parts).history(connector, tenant_id=tenant)

    found = with_parts(work)
    if as_json:
        print_json(found.as_dict())
    elif found.since_ms is None:
        note(f"nothing was kept of {connector} of tenant {tenant} yet: see `connectors health --tenant {tenant}`")
    else:
        _show(found)
    raise typer.Exit(Exit.OK if found.since_ms is not None else Exit.UNKNOWN)


def _show(found: History) -> None:
    from rich.table import Table

    from registry.health import rfc3339
    from worker.commands.printing import console

    screen = console()
    screen.print(f"{found.connector} of {found.tenant_id}, since {rfc3339(found.since_ms)}")
    uptime = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("last", "uptime", "healthy", "degraded", "unhealthy", "unknown", "maintenance"):
        uptime.add_column(title)
    for title, window in (("24 h", found.day), ("7 d", found.week), ("30 d", found.month)):
        uptime.add_row(title, *_cells(window))
    screen.print(uptime)
    screen.print(_told(found.latency))
    turns = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("when", "status", "reason", "fault"):
        turns.add_column(title)
    for turn in found.transitions:
        turns.add_row(rfc3339(turn.at_ms), turn.status.value, turn.reason.value, turn.fault.value)
    screen.print(turns)


def _cells(window: Window) -> list[str]:
    from worker.commands.table import duration

    states = (window.healthy, window.degraded, window.unhealthy, window.unknown, window.maintenance)
    # Rounded down: a single second's failure in a month must not read as 100 %.
    uptime = "unknown" if window.uptime is None else f"{math.floor(window.uptime * 1000) / 1000:.3f} %"
    return [uptime, *(duration(state) if state else "-" for state in states)]


def _told(latency: Latency) -> str:
    if latency.p50 is None or latency.p95 is None or latency.p99 is None:
        return "no usable check today or yesterday"
    figures = f"p50 {latency.p50:.0f} ms, p95 {latency.p95:.0f} ms, p99 {latency.p99:.0f} ms"
    return f"latency: {figures}, of {latency.count} usable checks today and yesterday"
