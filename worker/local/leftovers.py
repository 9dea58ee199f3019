"""The processes of one run directory, found by a mark in their environment, whoever their parent is by now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import psutil

from worker.local.directory import RunDirectory

MARK = "CONNECTORS_RUN_ID"
"""The environment variable that every process of a run directory carries: the directory's path."""

NAME = "SUPERVISOR_PROCESS_NAME"
"""The environment variable in which supervisord tells each process its name."""


def processes(directory: RunDirectory) -> Iterator[psutil.Process]:
    """Everything that runs on behalf of this directory, supervisord included."""
    for process in psutil.process_iter():
        if process.pid != os.getpid() and _variable(process, MARK) == str(directory.path):
            yield process


def by_name(directory: RunDirectory) -> dict[str, list[psutil.Process]]:
    """The processes of each supervised name, supervisord's own child (the parent of the others) first.

    Process ids tell nothing of age: they begin anew, and what a killed parent has left is older than its successor.
    """
    found: dict[str, list[psutil.Process]] = {}
    supervisors: set[int] = set()
    for process in processes(directory):
        if name := _variable(process, NAME):
            found.setdefault(name, []).append(process)
        else:
            supervisors.add(process.pid)
    for group in found.values():
        group.sort(key=lambda process: (_parent(process) not in supervisors, process.pid))
    return found


def end(directory: RunDirectory, patience: float) -> int:
    """End every process of this directory: TERM, and KILL after `patience` seconds. Returns how many there were."""
    ended: set[int] = set()
    first = list(processes(directory))
    _signal(first, psutil.Process.terminate)
    psutil.wait_procs(first, timeout=patience)
    ended.update(process.pid for process in first)
    while rest := list(processes(directory)):  # what would not end, and what was started meanwhile
        _signal(rest, psutil.Process.kill)
        psutil.wait_procs(rest, timeout=5)
        ended.update(process.pid for process in rest)
    return len(ended)


def _signal(group: list[psutil.Process], send: Callable[[psutil.Process], None]) -> None:
    for process in group:
        try:
            send(process)
        except psutil.NoSuchProcess:
            continue


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _variable(process: psutil.Process, name: str) -> str | None:
    try:
        return process.environ().get(name)
    except psutil.Error:
        return None  # gone meanwhile, or another user's
