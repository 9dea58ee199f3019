"""How verdicts look on a terminal: a row a tenant, a column a connector, and what to do. Colour only repeats."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from registry.health import HealthStatus, Reason, Status
from registry.ids import SYSTEM

if TYPE_CHECKING:
    from rich.console import Console

    from worker.commands.reading import Statuses

_LOOKS = {
    Status.HEALTHY: ("✔", "+", "green"),
    Status.DEGRADED: ("▲", "!", "yellow"),
    Status.UNHEALTHY: ("✖", "x", "red"),
    Status.UNKNOWN: ("?", "?", "magenta"),
}
_ORDER = (Status.UNHEALTHY, Status.UNKNOWN, Status.DEGRADED, Status.HEALTHY)
EVERYBODY = "(service)"
"""The row of the service checks, which belong to no tenant."""


def symbol(status: Status, console: Console) -> str:
    """The status as one character that this terminal can show."""
    fine, plain, _ = _LOOKS[status]
    return fine if console.encoding.lower().startswith("utf") else plain


def cell(status: HealthStatus | None, console: Console) -> Text:
    """Symbol, reason and age of one verdict."""
    if status is None:
        return Text("-", style="dim")
    age = "" if status.age is None else f" {duration(status.age)}"
    return Text(f"{symbol(status.status, console)} {status.reason.value}{age}", style=_LOOKS[status.status][2])


def health_table(statuses: Statuses, console: Console, *, rows: int | None = None) -> Table:
    """The verdicts; with `rows`, only so many tenants, those with problems first."""
    connectors = sorted({pair.connector for pair in statuses})
    tenants = _by_urgency(statuses) if rows is not None else sorted({pair.tenant for pair in statuses})
    shown = sorted(tenants[:rows]) if rows is not None else tenants
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("tenant", *connectors):
        table.add_column(name, overflow="fold")
    by_key = {(pair.tenant, pair.connector): status for pair, status in statuses.items()}
    for tenant in shown:
        cells = [cell(by_key.get((tenant, name)), console) for name in connectors]
        table.add_row(Text(EVERYBODY if tenant == SYSTEM else tenant), *cells)
    if hidden := set(tenants) - set(shown):
        fine = all(status.reason is Reason.OK for pair, status in statuses.items() if pair.tenant in hidden)
        table.add_row(Text(f"… {len(hidden)} more{', all ok' if fine else ''}", style="dim"))
    return table


def summary(statuses: Iterable[HealthStatus], console: Console) -> Text:
    """Counts by status, in one line."""
    counts = Counter(status.status for status in statuses)
    parts = [
        Text(f"{symbol(status, console)} {counts[status]} {status.value}", style=_LOOKS[status][2])
        for status in reversed(_ORDER)
    ]
    return Text("   ").join(parts)


def advice(statuses: Statuses, *, most: int | None = None) -> Table:
    """Who must do what: one line for each verdict that is not ok, the worst first."""
    troubles = urgent(statuses.values())
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("tenant", "connector", "reason", "since", "what to do"):
        table.add_column(name, overflow="fold")
    for status in troubles[:most]:
        who = status.tenant_id or EVERYBODY
        since = "" if status.since_ms is None else duration(max(0.0, (status.read_ms - status.since_ms) / 1000))
        style = _LOOKS[status.status][2]
        table.add_row(who, status.connector, Text(status.reason.value, style=style), since, Text(todo(status)))
    if most is not None and len(troubles) > most:
        table.add_row(Text(f"… {len(troubles) - most} more", style="dim"))
    return table


def urgent(statuses: Iterable[HealthStatus]) -> list[HealthStatus]:
    """The verdicts that are not ok, the worst first."""
    troubles = [status for status in statuses if status.reason is not Reason.OK]
    return sorted(troubles, key=lambda status: (_ORDER.index(status.status), status.tenant_id or "", status.connector))


def line(status: HealthStatus, console: Console) -> Text:
    """One transition as one line."""
    who = status.tenant_id or EVERYBODY
    text = f"{time.strftime('%H:%M:%S')} {symbol(status.status, console)} {who} {status.connector}: "
    text += f"{status.status.value}, {status.reason.value}"
    return Text(f"{text}. {todo(status)}" if status.action else text, style=_LOOKS[status.status][2])


def todo(status: HealthStatus) -> str:
    """Who must do what, with the error where the advice is to read it."""
    if status.reason is Reason.MISCONFIGURED and status.error:
        return f"{status.action.rstrip('.')}: {status.error}"
    return status.action


def duration(seconds: float) -> str:
    """Seconds as ``7s``, ``12m``, ``3h`` or ``2d``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def _by_urgency(statuses: Statuses) -> Sequence[str]:
    worst: dict[str, int] = {}
    for pair, status in statuses.items():
        rank = 0 if pair.tenant == SYSTEM else 1 + _ORDER.index(status.status)
        worst[pair.tenant] = min(worst.get(pair.tenant, rank), rank)
    return sorted(worst, key=lambda tenant: (worst[tenant], tenant))
