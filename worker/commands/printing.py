"""Writing to the terminal: JSON for programs, Rich for people, notes to stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


PIPED_WIDTH = 240
"""Columns of a table that another program reads."""


def print_json(value: object, *, indent: int | None = 2) -> None:
    """`value` as JSON on stdout; ``indent=None`` gives one line."""
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line for the person, beside the answer: stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def say(text: str) -> None:
    """A line of the answer: stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def console() -> Console:
    """The terminal. Highlighting is off: colours here always mean a status. What is piped is not wrapped."""
    from rich.console import Console

    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, PIPED_WIDTH)
    return made
