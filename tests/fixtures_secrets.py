"""A Secret Manager of the tests' own: drongo's server, which Google's client talks to over REST."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures_firestore import free_port
from tests.waiting import eventually


@dataclass
class SecretManager:
    """One server process. What it holds is lost when it ends."""

    log: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [str(Path(sys.executable).with_name("drongo")), "server", "--host", "127.0.0.1"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*command, "--port", str(self.port)], stdout=log, stderr=log)
        eventually("it listens", self._is_up)

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return self._listens()

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@pytest.fixture(scope="session")
def secret_manager() -> Iterator[SecretManager]:
    """A running server, the same for all tests."""
    with tempfile.TemporaryDirectory(prefix="cr-secrets-") as directory:
        server = SecretManager(Path(directory) / "log", free_port())
        server.start()
        yield server
        server.kill()
