"""supervisord as the parent of every process: it restarts what dies, and ends everything in order.

http://supervisord.org/configuration.html
"""

from __future__ import annotations

import configparser
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from registry.settings import environment
from worker.local.directory import RunDirectory, write_private
from worker.local.environment import Local
from worker.local.leftovers import MARK
from worker.local.processes import Process

STOP_WAIT = 12
"""Seconds a process may take to finish what it is at, before it is killed: a check's deadline and a little."""

STOP_ALL = 2 * STOP_WAIT + 6
"""Seconds until everything has ended: first the application, then the servers it uses."""

_HEAD = """\
[supervisord]
nodaemon=true
silent=true
logfile={log}
logfile_maxbytes=1MB
logfile_backups=1
pidfile={pid}
childlogdir={logs}
umask=077
minfds=256
"""

_PROGRAM = """\
[program:{name}]
command={command}
autorestart=true
startretries=1000000
startsecs=1
stopwaitsecs={wait}
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""


def configuration(directory: RunDirectory, local: Local) -> str:
    """supervisord's configuration; paths are relative to where it runs, the run directory's parent.

    A group ends as a whole and the groups one after another, the servers last. Only the parent of a group of worker
    processes is asked to end (it lets its children finish); a kill goes to all of them.
    """
    run = Path(directory.path.name)
    head = _HEAD.format(log=run / "log/supervisord.log", pid=run / "supervisord.pid", logs=run / "log")
    groups = [_group("servers", 1, local.servers), _group("application", 2, local.application)]
    programs = [_program(run, process) for process in (*local.servers, *local.application)]
    return "\n".join(part for part in (head, *groups, *programs) if part)


def names(directory: RunDirectory) -> list[str]:
    """The processes that the running supervisord looks after."""
    parser = configparser.RawConfigParser()
    parser.read(directory.supervisor_conf)
    return [section.partition(":")[2] for section in parser.sections() if section.startswith("program:")]


def start(directory: RunDirectory, local: Local, *, inherit: int | None = None) -> subprocess.Popen[bytes]:
    """Start supervisord, out of reach of the terminal's signals; `inherit` is a file it keeps open."""
    write_private(directory.supervisor_conf, configuration(directory, local))
    with directory.log("supervisord.out").open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(directory.supervisor_conf)],
            cwd=directory.path.parent,
            env=environment({**local.overrides, MARK: str(directory.path)}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=() if inherit is None else (inherit,),
        )


def stop(supervisor: subprocess.Popen[bytes]) -> None:
    """Ask supervisord to end everything, and wait for it; what is left then, `leftovers` ends."""
    supervisor.terminate()
    try:
        supervisor.wait(STOP_ALL)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()


def last_words(directory: RunDirectory, name: str) -> str:
    """The last line that a process has logged."""
    path = directory.log(name)
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1] if lines else "nothing was logged"


def _group(name: str, priority: int, members: Iterable[Process]) -> str:
    listed = ",".join(process.name for process in members)
    return f"[group:{name}]\nprograms={listed}\npriority={priority}\n" if listed else ""


def _program(run: Path, process: Process) -> str:
    command = process.started_by().replace("%", "%%")
    return _PROGRAM.format(name=process.name, command=command, wait=STOP_WAIT, log=run / f"log/{process.name}.log")
