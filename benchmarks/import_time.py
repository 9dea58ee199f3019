"""What ``import registry`` costs: milliseconds more than an empty Python, side by side in one run.

Run with ``python benchmarks/import_time.py``; the budget is 150 ms.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROUNDS = 20
STATEMENTS = {
    "empty": "pass",
    "import registry": "import registry",
    "the reader": "from registry import HealthView",
    "the whole": "from registry import create_registry",
}


def seconds(statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True)
    return time.perf_counter() - started


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(ROUNDS):  # in turns, so that whatever else runs here disturbs all alike
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    empty = statistics.median(times["empty"])
    print(f"empty Python: {empty * 1000:.0f} ms (median of {ROUNDS})")
    for name in list(STATEMENTS)[1:]:
        print(f"{name}: {(statistics.median(times[name]) - empty) * 1000:+.0f} ms")


if __name__ == "__main__":
    main()
