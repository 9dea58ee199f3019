"""What ``import registry`` costs: milliseconds more than an empty Python, side by side in one run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Figure, run

ROOT = Path(__file__).parent.parent
BUDGET_MS = 150
STATEMENTS = {
    "`import registry`": "import registry",
    "the reader, `HealthView`": "from registry import HealthView",
    "the whole, `create_registry`": "from registry import create_registry",
}


def figures(*, short: bool) -> list[Figure]:
    """Milliseconds each statement takes beyond an empty Python; only the first has a budget."""
    times: dict[str, list[float]] = {statement: [] for statement in ("pass", *STATEMENTS.values())}
    for _ in range(5 if short else 20):
        for statement, taken in times.items():
            taken.append(_milliseconds(statement))
    empty = statistics.median(times["pass"])
    return [_figure(what, statistics.median(times[statement]) - empty) for what, statement in STATEMENTS.items()]


def _figure(what: str, more: float) -> Figure:
    if what != "`import registry`":
        return Figure("import", f"{what}, beyond an empty Python", more, "ms")
    goal = f"≤ {BUDGET_MS} ms"
    return Figure("import", f"{what}, beyond an empty Python", more, "ms", goal=goal, reached=more <= BUDGET_MS)


def _milliseconds(statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True)
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    run(figures)
