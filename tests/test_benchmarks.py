"""The benchmarks have one form and one page; they are not run here."""

from __future__ import annotations

import io
import ssl
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console

from benchmarks.__main__ import LISTED, PAGE, STUDIES, Measured, page
from benchmarks.figures import Figure, machine, median_of, table
from benchmarks.goals import GOALS
from benchmarks.settings import Settings
from benchmarks.targets import PATH, demo_vendors, token
from registry import settings as registered

HERE = Path(__file__).parent.parent / "benchmarks"


def test_every_benchmark_is_listed() -> None:
    programs = {file.stem for file in HERE.glob("*.py") if "\nif __name__ ==" in file.read_text(encoding="utf-8")}
    assert programs - {"__main__"} == {*LISTED, *STUDIES}


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_benchmark_tells_its_figures(name: str) -> None:
    module = import_module(f"benchmarks.{name}")
    assert callable(module.figures)
    assert module.__doc__


@pytest.mark.parametrize("module", sorted(file.stem for file in HERE.glob("[a-z]*.py")))
def test_no_benchmark_takes_settings_from_what_ran_in_its_directory(module: str) -> None:
    found = vars(import_module(f"benchmarks.{module}"))
    assert registered.Settings not in found.values(), "import benchmarks.settings.Settings"


def test_settings_of_a_benchmark_are_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".run").mkdir()
    (tmp_path / ".run" / "env").write_text("CHECK_INTERVAL=7\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert registered.Settings().check_interval == 7
    assert Settings.model_validate({"shards": 4}).check_interval == 60


async def test_the_demo_vendors_are_a_target_plain_and_by_tls() -> None:
    with demo_vendors() as target:
        trusted = ssl.create_default_context(cafile=target.certificate)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token(7)}"}) as session:
            for url in (target.plain, target.tls):
                async with session.get(url + PATH, ssl=trusted) as answer:
                    assert (await answer.json())["rate"]["limit"] == 5000, "a tenant's limit, not that of an address"


def test_the_page_has_a_row_for_every_figure_to_reach() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for goal in GOALS:
        assert any(line.startswith(f"| {goal.what} | {goal.goal} |") for line in lines), goal.row


def test_a_missed_figure_is_said_so() -> None:
    found = Measured(machine(), [Figure("read", "sync", 2.0, "µs", 1.0, "raw GET", 2.0, "≤ 1.3 ×", reached=False)])
    row = next(line for line in page({"reads": found}).splitlines() if "cached read" in line)
    assert "sync: 2 × raw GET (2 µs to 1 µs) | MISSED | `python -m benchmarks.reads`" in row


def test_what_was_counted_by_the_second_is_drawn_to_one_scale() -> None:
    flat = Figure("load", "usual", 50, "checks", 50, "the mean", 1.0, seconds=(50, 50))
    steep = Figure("load", "after", 100, "checks", 50, "the mean", 2.0, seconds=(100, 0, 25))
    lines = page({"load": Measured(machine(), [flat, steep])}).splitlines()
    drawn = lines[lines.index("```") :]
    assert [line.split() for line in drawn[2:5]] == [
        ["1", "50", "█" * 8, "100", "█" * 16],
        ["2", "50", "█" * 8, "0"],
        ["3", "25", "█" * 4],
    ]


def test_what_was_not_measured_is_said_so() -> None:
    row = next(line for line in page({}).splitlines() if "cached read" in line)
    assert "| not measured |" in row


def test_the_table_shows_what_was_measured_and_whether_it_is_enough() -> None:
    console = Console(file=io.StringIO(), width=160)
    table([Figure("import", "`import registry`", 12.0, "ms", goal="≤ 150 ms", reached=True)], console)
    assert isinstance(console.file, io.StringIO)
    assert "│ `import registry` │ 12 ms    │ ≤ 150 ms │ yes     │" in console.file.getvalue()


def test_a_missing_server_ends_a_benchmark_with_one_sentence() -> None:
    command = [sys.executable, "-c", "from benchmarks.servers import program; program('nginxx', package='nginx-light')"]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "nginxx is missing: on Debian install the package nginx-light (as root, ops/install-bench-servers.sh does)\n"
    )


def test_all_benchmarks_end_without_a_traceback_when_one_cannot_measure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--short", "memory"]
    nothing = {"PATH": str(tmp_path)}
    done = subprocess.run(command, cwd=HERE.parent, env=nothing, capture_output=True, text=True, check=False)
    first, last = done.stderr.splitlines()
    assert first.startswith("redis-server is missing: on Debian install the package redis-server ")
    assert last == "benchmarks.memory could not measure"


def test_the_median_is_not_moved_by_one_that_was_disturbed() -> None:
    values = iter([1.0, 100.0, 2.0])
    assert median_of(3, lambda: next(values)) == 2.0
