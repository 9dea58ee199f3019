"""`.run`: the one place for everything that ``connectors up`` makes, and the lock that says who runs there."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from registry.settings import RUN_DIR
from worker.commands.exits import BadInput

LONGEST_SOCKET = 100
"""Characters of a Unix socket's path: the kernel's limit is 108, on macOS 104."""

_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The paths in one run directory. `path` is absolute; its parent is where every process runs."""

    path: Path

    @classmethod
    def here(cls) -> RunDirectory:
        """The run directory of the current directory."""
        return cls(RUN_DIR.absolute().resolve())

    @property
    def env(self) -> Path:
        """What `Settings` reads beside the environment."""
        return self.path / "env"

    @property
    def next_env(self) -> Path:
        """What `env` becomes once a run really starts."""
        return self.path / "env.next"

    @property
    def targets(self) -> Path:
        """What Prometheus scrapes of this run, in its file-based service discovery's form."""
        return self.path / "targets.json"

    @property
    def token(self) -> Path:
        """The API token that a run on loopback makes for whoever started it."""
        return self.path / "api-token"

    def adopt_env(self) -> None:
        """The run starts: from now on every command here uses its environment."""
        self.next_env.replace(self.env)

    @property
    def supervisor_conf(self) -> Path:
        """supervisord's configuration."""
        return self.path / "supervisord.conf"

    def data(self, *, demo: bool) -> Path:
        """Where the data lies; the demo has its own, so that it never mixes with real tenants."""
        return self.path / "demo" if demo else self.path

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.path / "log" / f"{name}.log"

    @property
    def socket(self) -> Path:
        """Redis' socket: here, or in a short private directory when this path is too long or unusual for a URL."""
        inside = self.path / "redis.sock"
        if len(str(inside)) <= LONGEST_SOCKET and _PLAIN.fullmatch(str(inside)):
            return inside
        name = hashlib.sha256(str(self.path).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"connectors-{os.getuid()}-{name}" / "redis.sock"

    def prepare(self) -> None:
        """Make the directories, readable by their owner only. Raises `BadInput` when they cannot be used."""
        try:
            for directory in (self.path, self.path / "log", self.data(demo=True), self.socket.parent):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                if directory.stat().st_uid != os.getuid():
                    raise BadInput(f"{directory} belongs to another user: remove it, or run in another directory")
                directory.chmod(0o700)
            probe = self.path / "probe"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise BadInput(
                f"the data directory {self.path} cannot be written ({error.strerror}): make it writable, or run in "
                "another directory"
            ) from None

    def encryption_key(self) -> str:
        """The key that seals secrets on this machine, made at the first use (base64 of 32 bytes)."""
        path = self.path / "encryption.key"
        if not path.exists():
            write_private(path, base64.b64encode(os.urandom(32)).decode())
        return path.read_text().strip()

    def clean(self) -> None:
        """Remove what only a running system has: its socket and configuration. Data, logs and `env` stay."""
        for path in (self.socket, self.next_env, self.supervisor_conf, self.path / "supervisord.pid"):
            path.unlink(missing_ok=True)
        if self.socket.parent != self.path and self.socket.parent.is_dir():
            self.socket.parent.rmdir()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, in one step: a reader sees the old or the new one."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


class RunLock:
    """Held by the process that a running system ends with: ``connectors up``, or supervisord when detached.

    It is a file lock, so the kernel gives it back however its holder ends: nothing stale can be left.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._path = directory.path / "lock"
        self.fd: int | None = None

    def take(self) -> bool:
        """Take the lock; False when somebody holds it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self.fd = fd
        self.name(os.getpid())
        return True

    def name(self, pid: int) -> None:
        """Say which process ends the system."""
        if self.fd is not None:
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, str(pid).encode(), 0)

    def release(self, *, passed_on: bool = False) -> None:
        """Give the lock back; `passed_on` when another process has inherited it."""
        if self.fd is not None:
            if not passed_on:
                os.ftruncate(self.fd, 0)
            os.close(self.fd)
            self.fd = None

    def holder(self) -> int | None:
        """The process that holds the lock; None when nobody does."""
        if not self._path.parent.is_dir():
            return None
        if self.take():
            self.release()
            return None
        text = self._path.read_text()
        return int(text) if text.isdecimal() else 0
