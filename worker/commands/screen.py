"""A screenful of everybody's health: counts, the table cut to what fits, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from worker.commands.table import advice, health_table, summary, urgent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from worker.commands.reading import Watcher

FIXED_LINES = 9
"""Lines of a page that are neither tenants nor advice: counts, headings, gaps, the cursor's."""


def page(watcher: Watcher, console: Console, header: Sequence[str] = (), warnings: Sequence[str] = ()) -> Group:
    """What is shown at one moment; at most as high as the terminal."""
    statuses = watcher.statuses
    room = max(8, console.size.height - FIXED_LINES - len(header) - len(warnings))
    troubles = len(urgent(statuses.values()))
    told = min(troubles, max(4, room // 3))
    parts: list[RenderableType] = [Text(text, style="dim") for text in header]
    parts.append(summary(statuses.values(), console))
    if watcher.away:
        warnings = ["Redis does not answer: nothing can be told until it is back", *warnings]
    parts += [Text(text, style="bold red") for text in warnings]
    parts += [Text(), health_table(statuses, console, rows=room - told)]
    if troubles:
        parts += [Text(), advice(statuses, most=told)]
    return Group(*parts)
