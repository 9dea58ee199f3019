"""Heartbeat files: a process writes the time into one whenever its work loop turns, so a probe needs nothing else.

::

    python -m worker.heartbeat checks /tmp/heartbeats 60

A process locks its file for as long as it lives, and the kernel gives the lock back however it ends: a file that is
not locked is a dead process's and says nothing; one that is locked and old is a process that hangs. The time is the
steady clock's, which no change of the wall clock moves. This module imports next to nothing: it is run every few
seconds in every container.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from registry.clock import steady

CHILD = "-child"
"""What follows a worker's role in the names of its children's files."""

ROLES = ("beat", "dispatch", "checks", "publish")
"""The roles that have heartbeats; each but beat is a Celery worker with children of its own."""

EVERY = 1.0
"""Seconds between two heartbeats of a loop that is free to turn."""

STALE = 60.0
"""Seconds without a heartbeat after which a process hangs: what Celery's own time limits do not end by then."""


class Heartbeat:
    """The file of this process: `beat` when the work loop turns, nowhere else.

    Args:
        directory: made if it is missing; one a host or container.
        role: one of `ROLES`, with `CHILD` behind it for a worker's child.

    Raises:
        OSError: the directory cannot be written.
    """

    def __init__(self, directory: Path, role: str) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(directory, role)
        name = f"{role}.{uuid4().hex}"
        made = directory / f".{name}"
        self._fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock it does not pass on to forked children
        self._pid, self._last = os.getpid(), 0.0
        self.beat()
        made.rename(directory / name)

    @property
    def ours(self) -> bool:
        """Whether this process made it. A forked child has neither the lock nor, where Celery closes it, the file."""
        return self._pid == os.getpid()

    def beat(self) -> None:
        """The work loop has turned."""
        now = steady()
        if now - self._last >= EVERY / 2:
            self._last = now
            os.pwrite(self._fd, b"%020.3f %010d\n" % (now, self._pid), 0)


def trouble(directory: Path, role: str, stale: float = STALE) -> str | None:
    """What is wrong with the processes of `role` here, in one sentence; None when each has beaten of late."""
    for kind in (role,) if role == "beat" else (role, role + CHILD):
        beats = [text for path in _files(directory, kind) if (text := _living(path))]
        if not beats:
            return f"no {kind} process has a heartbeat in {directory}"
        beaten, pid = min(beats).split()
        age = steady() - float(beaten)
        if age > stale:
            return f"process {int(pid)} ({kind}) has not beaten for {age:.0f} s, and {stale:g} s are allowed: it hangs"
    return None


def _files(directory: Path, kind: str) -> Iterator[Path]:
    return directory.glob(f"{kind}.*")


def _living(path: Path) -> str | None:
    """What the file says; None when its process is dead."""
    try:
        with path.open() as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read()
    except FileNotFoundError:
        pass
    return None


def _sweep(directory: Path, kind: str) -> None:
    """Remove the files of dead processes."""
    for path in _files(directory, kind):
        if _living(path) is None:
            with suppress(FileNotFoundError):
                path.unlink()


def main(arguments: list[str]) -> int:
    """The probe: role, directory and, if others than `STALE`, the seconds allowed. 0 alive, 1 not, 2 misused."""
    if len(arguments) not in (2, 3) or arguments[0] not in ROLES:
        sys.stderr.write(f"usage: python -m worker.heartbeat {'|'.join(ROLES)} DIRECTORY [SECONDS]\n")
        return 2
    role, directory, *stale = arguments
    told = trouble(Path(directory), role, *map(float, stale))
    if told:
        sys.stderr.write(f"{told}\n")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
