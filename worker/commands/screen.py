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

FEWEST = 4
"""Tenants, and lines of advice, that are shown however low the terminal is."""


def page(watcher: Watcher, console: Console, header: Sequence[str] = (), warnings: Sequence[str] = ()) -> Group:
    """What is shown at one moment; as high as the terminal, if that is not very low."""
    height = console.size.height
    rows = min(height, len({pair.tenant for pair in watcher.statuses}))
    told = min(len(urgent(watcher.statuses.values())), max(FEWEST, height // 6))
    shown = _page(watcher, console, [*header], [*warnings], rows, told)
    while (surplus := len(console.render_lines(shown)) + 1 - height) > 0 and rows > FEWEST:
        rows = max(FEWEST, rows - max(1, surplus // 2))  # a tenant may take two lines
        shown = _page(watcher, console, [*header], [*warnings], rows, told)
    return shown


def _page(
    watcher: Watcher, console: Console, header: Sequence[str], warnings: Sequence[str], rows: int, told: int
) -> Group:
    statuses = watcher.statuses
    parts: list[RenderableType] = [Text(text, style="dim") for text in header]
    parts.append(summary(statuses.values(), console))
    if watcher.away:
        parts.append(Text("Redis does not answer: nothing can be told until it is back", style="bold red"))
    parts += [Text(text, style="bold red") for text in warnings]
    parts += [Text(), health_table(statuses, console, rows=rows)]
    if told:
        parts += [Text(), advice(statuses, most=told)]
    return Group(*parts)
