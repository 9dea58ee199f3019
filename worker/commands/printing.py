"""Writing to the terminal: JSON for programs, Rich for people, notes to stderr.

What is shown may come from anybody, so nothing passes that a terminal would obey. `Failed` is raised where stdout takes
no more.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from registry.clean import printable
from worker.commands.exits import Failed

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment


PIPED_WIDTH = 240
"""Columns of a table that another program reads."""


def print_json(value: object, *, indent: int | None = 2) -> None:
    """`value` as JSON on stdout; ``indent=None`` gives one line."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    _write(text if printable(text) == text else json.dumps(value, indent=indent))


def note(text: str) -> None:
    """A line for the person, beside the answer: stderr."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def say(text: str) -> None:
    """A line of the answer: stdout."""
    _write(printable(text))


def say_yaml(value: object) -> None:
    """`value` as YAML on stdout, to be read back as it is: what is not to be shown is escaped."""
    import yaml

    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    _write((text if printable(text) == text else yaml.safe_dump(value, sort_keys=False)).rstrip())


def console() -> Console:
    """The terminal. Highlighting is off: colours here always mean a status. What is piped is not wrapped."""
    from rich.console import Console

    class Terminal(Console):
        def print(self, *objects: Any, **more: Any) -> None:
            with _answering():
                super().print(*objects, **more)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    made = Terminal(highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, PIPED_WIDTH)
    return made


def _write(line: str) -> None:
    with _answering():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


@contextmanager
def _answering() -> Iterator[None]:
    """Raises `Failed` where stdout takes no more. That nobody reads it any longer is no failure."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try again at its end
        raise Failed(f"the answer could not be written to stdout: {error.strerror}") from None
