"""Writing to the terminal: JSON for programs, Rich for people, notes to stderr.

What is shown may come from anybody, so nothing passes that a terminal would obey.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from registry.clean import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment


PIPED_WIDTH = 240
"""Columns of a table that another program reads."""


def print_json(value: object, *, indent: int | None = 2) -> None:
    """`value` as JSON on stdout; ``indent=None`` gives one line."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    sys.stdout.write((text if printable(text) == text else json.dumps(value, indent=indent)) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line for the person, beside the answer: stderr."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def say(text: str) -> None:
    """A line of the answer: stdout."""
    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def console() -> Console:
    """The terminal. Highlighting is off: colours here always mean a status. What is piped is not wrapped."""
    from rich.console import Console

    class Terminal(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    made = Terminal(highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, PIPED_WIDTH)
    return made
