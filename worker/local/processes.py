"""The processes of the system, in one place: the Procfile and supervisord's configuration both say this."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass

_WORKER = (
    "celery --app worker.app worker --queues {queue} --concurrency {children} --hostname {queue}@%h "
    "--without-gossip --without-mingle --without-heartbeat"
)


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its name and its command, as the Procfile spells it."""

    name: str
    command: str

    def line(self) -> str:
        """The Procfile's line."""
        return f"{self.name}: {self.command}"

    def started_by(self, python: str = sys.executable) -> str:
        """The command with this very Python in front, so that no PATH is needed."""
        program, _, arguments = self.command.partition(" ")
        module = {"celery": "-m celery", "connectors": "-m worker.cli", "python": ""}.get(program)
        if module is None:
            return self.command
        return " ".join(part for part in (shlex.quote(python), module, arguments) if part)


APPLICATION: tuple[Process, ...] = (
    Process("beat", "celery --app worker.app beat"),
    Process("worker-dispatch", _WORKER.format(queue="dispatch", children=1)),
    Process("worker-checks", _WORKER.format(queue="checks", children=2)),
    Process("worker-publish", _WORKER.format(queue="publish", children=2)),
    Process("metrics", "connectors metrics"),
    Process("api", "connectors serve"),
)
"""What the system consists of, wherever it runs. The servers beside it are in `worker.local.servers`."""
