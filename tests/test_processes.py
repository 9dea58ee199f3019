"""Tests in several processes: what shares a system stays together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = ("tests/test_clean.py", "tests/test_circuit.py", "tests/test_ticks.py")


def test_a_files_tests_run_in_one_process() -> None:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-n", "2", "-v", "-p", "no:cacheprovider", *FILES]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    ran = {(file, where) for where, file in re.findall(r"^\[(gw\d)\] .* PASSED (\S+?)::", done.stdout, re.MULTILINE)}
    assert {file for file, _ in ran} == set(FILES)
    assert len({where for _, where in ran}) == 2
    assert len(ran) == len(FILES)
