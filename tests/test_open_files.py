"""The limit of open files, raised in a process of its own."""

import resource
import subprocess
import sys

import pytest

from worker.open_files import ENOUGH

PROGRAM = """
import resource, sys
from worker.open_files import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[1])))
assert raise_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize("hard", [512, 256])
def test_a_process_takes_as_many_open_files_as_it_may(hard: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(hard)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(hard)] * 2


def test_but_no_more_than_it_needs() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(hard)], capture_output=True, text=True, check=True)
    allowed = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    assert done.stdout.split() == [str(allowed), str(hard)]
