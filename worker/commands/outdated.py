"""``connectors outdated``: which packages with connectors have a newer version, as pip tells when asked."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, dataclass

import typer

from worker.commands.exits import Exit
from worker.commands.options import AsJson

PATIENCE = 30.0
"""Seconds pip may take for one package."""


@dataclass(frozen=True, slots=True)
class Row:
    """One package: its version here, the newest that its index has, or why that cannot be told."""

    distribution: str
    installed: str
    newest: str = ""
    outdated: bool = False
    problem: str = ""


def outdated(*, as_json: AsJson = False) -> None:
    """Ask the package index, through pip's own configuration, for newer versions of what has connectors.

    Exit code: 0 everything is the newest, 1 something is outdated, 3 something could not be told.
    """
    from registry.versions import DISTRIBUTION
    from worker.commands.connectors import catalog
    from worker.commands.printing import console, print_json

    names = {DISTRIBUTION, *(offer.distribution for offer in catalog().found.offers.values())}
    rows = [_asked(name) for name in sorted(names)]
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("package", "installed", "newest", ""):
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(
                row.distribution, row.installed, row.newest or "?", row.problem or ("outdated" if row.outdated else "")
            )
        console().print(table)
    raise typer.Exit(_exit(rows))


def _exit(rows: list[Row]) -> Exit:
    if any(row.outdated for row in rows):
        return Exit.PROBLEM
    return Exit.UNKNOWN if any(row.problem for row in rows) else Exit.OK


def _asked(name: str) -> Row:
    from importlib.metadata import version

    from packaging.version import Version

    installed = version(name)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "index", "versions", name]
    try:
        # the name is that of an installed package
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return Row(name, installed, problem=f"pip did not answer within {PATIENCE:g} s")
    newest = _newest(done.stdout)
    if done.returncode or not newest:
        errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        return Row(name, installed, problem=errors[-1] if errors else "pip told no version")
    return Row(name, installed, newest, outdated=Version(newest) > Version(installed))


def _newest(said: str) -> str:
    """The version in pip's first line, ``name (1.2.3)``."""
    return said.partition("(")[2].partition(")")[0]
