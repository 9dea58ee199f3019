"""Names in leases: a process keeps its own, and no two are alike, however alike their hosts and process ids are."""

from __future__ import annotations

import subprocess
import sys

ALIKE = """
import os, socket
os.getpid, socket.gethostname = lambda: 1, lambda: "clone"
from worker.owner import owner
assert owner() == owner()
"""
"""A process that has the host and the process id of every other."""

FORKED = """
print(owner(), flush=True)
child = os.fork()
if child == 0:
    assert owner() == owner()
    print(owner(), flush=True)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(owner())
"""


def names(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", ALIKE + code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_processes_with_the_same_host_and_process_id_have_names_of_their_own() -> None:
    (one,), (other,) = names("print(owner())"), names("print(owner())")
    assert one != other
    assert one.startswith("clone:1:"), "people see where it runs"


def test_a_forked_process_has_a_name_of_its_own() -> None:
    parent, child, still = names(FORKED)
    assert parent == still
    assert parent != child
