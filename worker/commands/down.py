"""``connectors down``: the end of what ``connectors up`` started here, whatever state it is in."""

from __future__ import annotations

import typer

from worker.commands.exits import Exit


def down() -> None:
    """End every process that `connectors up` started in this directory; also what a killed one left behind.

    Exit code: 0 when nothing runs any more, 1 when something could not be ended.
    """
    import os
    import signal
    import time
    from contextlib import suppress

    from worker.commands.printing import note, say
    from worker.local import leftovers
    from worker.local.directory import RunDirectory, RunLock
    from worker.local.supervision import STOP_ALL

    directory = RunDirectory.here()
    lock = RunLock(directory)
    holder, running = lock.holder(), len(list(leftovers.processes(directory)))
    if holder:
        with suppress(ProcessLookupError):
            os.kill(holder, signal.SIGTERM)
        deadline = time.monotonic() + STOP_ALL + 10
        while lock.holder() is not None and time.monotonic() < deadline:
            time.sleep(0.1)
    leftovers.end(directory, patience=5)
    if directory.path.is_dir():
        directory.clean()
    if lock.holder() is not None:
        note(f"process {holder} does not end: see {directory.log('supervisord')}, then `kill -9 {holder}`")
        raise typer.Exit(Exit.PROBLEM)
    say(f"ended {running} processes" if holder or running else "nothing was running")
