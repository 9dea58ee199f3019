"""Runs the benchmarks in turn, each in a process of its own, and prints one table: ``python -m benchmarks [NAME...]``.

What each module measured is kept in ``.run/benchmarks``; ``--write`` writes docs/performance.md from what is kept, so
that one benchmark can be measured again without all the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.figures import Figure, Machine, machine, table, verdict
from benchmarks.goals import GOALS, Goal
from benchmarks.histogram import histogram

ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".run" / "benchmarks"
PAGE = ROOT / "docs" / "performance.md"

LISTED = (
    "import_time",
    "checks",
    "reads",
    "detection",
    "history",
    "growth",
    "load",
    "memory",
    "publishing",
    "api",
)  # fmt: skip
"""The modules that are run, in this order."""

STUDIES = ("attribution", "nodes")
"""What measures something else than the figures to reach, and has a page of its own."""


@dataclass(frozen=True)
class Measured:
    """What one module found, and on which machine."""

    machine: Machine
    figures: list[Figure]


def measure(name: str, *, short: bool) -> Measured:
    """Run one module in a process of its own; ends this one with it when it fails, for it has said why."""
    here = machine()
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *(["--short"] if short else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"benchmarks.{name} could not measure")
    return Measured(here, msgspec.json.decode(done.stdout.splitlines()[-1], type=list[Figure]))


def keep(name: str, measured: Measured) -> None:
    """For the page."""
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.json").write_bytes(msgspec.json.encode(measured))


def kept() -> dict[str, Measured]:
    """What was measured last, by module."""
    files = {name: KEPT / f"{name}.json" for name in LISTED}
    return {
        name: msgspec.json.decode(file.read_bytes(), type=Measured) for name, file in files.items() if file.exists()
    }


def page(measured: Mapping[str, Measured]) -> str:
    """docs/performance.md: the figures to reach with what was measured, and then every figure there is."""
    lines = [
        "# Performance, measured",
        "",
        "The figures to reach, and what `make bench` measured; every comparison has both its sides in one run. Written",
        "by `make bench BENCH_ARGS=--write`; the last column prints a row again. Where a figure is missed, the",
        "[profile](profile.md) tells what was tried and what the limit is. Comparisons are medians of five rounds or",
        "more; what is one run (a p99 over many pairs, a kill, bytes) says why in its module's first lines.",
        "",
        "| what | figure to reach | measured | reached | command |",
        "|---|---|---|---|---|",
        *(_row(goal, measured) for goal in GOALS),
        "",
        "## Every figure",
        "",
        "| module | what | measured | goal | reached |",
        "|---|---|---|---|---|",
        *(_line(name, figure) for name, found in measured.items() for figure in found.figures),
        "",
        *histogram(figure for found in measured.values() for figure in found.figures),
        "## Where",
        "",
        *(f"- `{name}`: {found.machine}" for name, found in measured.items()),
        "",
    ]
    return "\n".join(lines)


def _row(goal: Goal, measured: Mapping[str, Measured]) -> str:
    found = [figure for each in measured.values() for figure in each.figures if figure.row == goal.row]
    judged = [figure for figure in found if figure.reached is not None]
    told = "<br>".join(f"{figure.what}: {figure.measured}" for figure in judged or found) or "not measured"
    reached = verdict(all(figure.reached for figure in judged)) if judged else ""
    command = next((figure.command for figure in found if figure.command), f"python -m benchmarks.{goal.module}")
    return f"| {goal.what} | {goal.goal} | {told} | {reached} | `{command}` |"


def _line(name: str, figure: Figure) -> str:
    return f"| {name} | {figure.what} | {figure.measured} | {figure.goal} | {verdict(figure.reached)} |"


def main() -> int:
    """Measure and print; returns the exit code, 1 when a figure is missed."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and print one table.")
    arguments.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(LISTED)}; none: all")
    arguments.add_argument("--short", action="store_true", help="measure less: to try it out, not for the record")
    arguments.add_argument("--write", action="store_true", help="write docs/performance.md from what is kept")
    told = arguments.parse_args()
    found: list[Figure] = []
    for name in _chosen(arguments, told.names):
        measured = measure(name, short=told.short)
        found += measured.figures
        if not told.short:
            keep(name, measured)
    table(found)
    if told.write:
        PAGE.write_text(page(kept()), encoding="utf-8")
    return 1 if any(figure.reached is False for figure in found) else 0


def _chosen(arguments: argparse.ArgumentParser, names: list[str]) -> Iterator[str]:
    for name in names or LISTED:
        if name not in LISTED:
            arguments.error(f"no benchmark named {name}; there are {', '.join(LISTED)}")
        yield name


if __name__ == "__main__":
    sys.exit(main())
