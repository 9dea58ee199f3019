"""The form of every benchmark: what it measured, beside what, and whether the goal is reached.

A benchmark is a module of this package, listed in `benchmarks.__main__.LISTED`, with one function::

    def figures(*, short: bool) -> list[Figure]: ...

    if __name__ == "__main__":
        run(figures)

``python -m benchmarks.<name>`` then prints its table; ``--short`` measures less (seconds instead of minutes).
Sides that are compared take turns in one run, so that whatever else the machine does disturbs both alike.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.servers import redis_program


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    `row` is the `benchmarks.goals.Goal.row` it belongs to, `goal` its own bound in words (empty: told for context).
    `ratio` is what the goal speaks of where it speaks of two sides: usually `ours` divided by `other`.
    `reached` is None where there is nothing to reach. `command` is what prints it; empty: the module's own.
    `seconds` is what was counted second by second, where the figure is of that.
    """

    row: str
    what: str
    ours: float
    unit: str
    other: float | None = None
    other_name: str = ""
    ratio: float | None = None
    goal: str = ""
    reached: bool | None = None
    command: str = ""
    seconds: tuple[float, ...] = ()

    @property
    def measured(self) -> str:
        """The figure in words: ``1.12 × raw GET (86.2 µs to 77.0 µs)``."""
        ours = f"{number(self.ours)} {self.unit}".strip()
        if self.other is None:
            return ours if self.ratio is None else f"{number(self.ratio)} × ({ours})"
        sides = f"{ours} to {number(self.other)} {self.unit}".strip()
        return sides if self.ratio is None else f"{number(self.ratio)} × {self.other_name} ({sides})"


class Figures(Protocol):
    """What each benchmark module calls ``figures``."""

    def __call__(self, *, short: bool) -> list[Figure]:
        """Measure; `short` takes seconds and is for trying it out, not for the record."""
        ...


@dataclass(frozen=True)
class Machine:
    """Where and when the figures were measured."""

    cpu: str
    cores: int
    memory: str
    kernel: str
    python: str
    redis: str
    load: str
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))

    def __str__(self) -> str:
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory}; Linux {self.kernel}, Python {self.python}, {self.redis}; "
            f"load average at the start {self.load}; {self.date}"
        )


def machine() -> Machine:
    """This machine, with its load average at this moment."""
    return Machine(
        cpu=_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory=f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        kernel=platform.release(),
        python=platform.python_version(),
        redis=_redis(),
        load=f"{os.getloadavg()[0]:.2f}",
    )


def _field(file: str, name: str) -> str:
    lines = Path(file).read_text(encoding="utf-8").splitlines() if Path(file).exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _redis() -> str:
    try:
        said = subprocess.run([redis_program(), "--version"], capture_output=True, text=True, check=True).stdout
    except SystemExit:
        return "no Redis"
    return "Redis " + next(word[2:] for word in said.split() if word.startswith("v="))


def median_of(n: int, measure: Callable[[], float]) -> float:
    """The median of `n` measurements."""
    return statistics.median(measure() for _ in range(n))


def number(value: float) -> str:
    """`value` with three digits that matter: ``0.0123``, ``4.56``, ``12,345``."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def verdict(reached: bool | None) -> str:  # noqa: FBT001 - a value to be shown, not a switch
    """``yes``, ``MISSED``, or nothing where there is no goal."""
    return {True: "yes", False: "MISSED", None: ""}[reached]


def table(figures: Iterable[Figure], console: Console | None = None) -> None:
    """Print the figures as one table."""
    shown = Table("what", "measured", "goal", "reached")
    for figure in figures:
        shown.add_row(figure.what, figure.measured, figure.goal, verdict(figure.reached))
    (console or Console()).print(shown)


def run(figures: Figures) -> None:
    """The main program of a benchmark module: measure, and print the table (``--json``: for `benchmarks.__main__`)."""
    arguments = argparse.ArgumentParser(description="Measure and print; see the module's first lines.")
    arguments.add_argument("--short", action="store_true", help="measure less: to try it out")
    arguments.add_argument("--json", action="store_true", help="one line for the program that runs all benchmarks")
    told = arguments.parse_args()
    here = machine()
    found = figures(short=told.short)
    if told.json:
        print(msgspec.json.encode(found).decode())
    else:
        table(found)
        print(here)
