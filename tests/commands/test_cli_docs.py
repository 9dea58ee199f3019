"""``docs/cli.md`` tells of every command and option."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer.main

from worker.cli import app
from worker.commands.exits import Exit

PAGE = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")


def commands(group: object, above: str) -> Iterator[tuple[str, list[str]]]:
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{above} {name}")
        else:
            options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
            yield f"{above} {name}", options


def test_every_command_and_option_is_described() -> None:
    for path, options in commands(typer.main.get_command(app), "connectors"):
        (row,) = [row for row in PAGE.splitlines() if row.startswith((f"| `{path}`", f"| `{path} "))]
        assert [option for option in options if option not in row and option != "--help"] == [], path


def test_every_exit_code_is_described() -> None:
    assert all(f"| {code.value} |" in PAGE for code in Exit)
