"""Google's Firestore emulator: a real server of the tests' own, which can be killed and started again.

https://cloud.google.com/firestore/docs/emulator
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import eventually

MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
JAR = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
PACKAGE = "google-cloud-cli-firestore-emulator"


@dataclass
class FirestoreEmulator:
    """One emulator process. What it holds is lost when it ends."""

    jar: Path
    log: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def command(self) -> list[str]:
        """What runs it."""
        return ["java", "-Xmx512m", "-cp", str(self.jar), MAIN, "start", "--host=127.0.0.1", f"--port={self.port}"]

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        eventually("the emulator answers", self._is_up)

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return self.answers()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def clear(self, project: str) -> None:
        """Delete every document of a project."""
        url = f"http://{self.host}/emulator/v1/projects/{project}/databases/(default)/documents"
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE")):
            pass

    def answers(self) -> bool:
        """Does it answer now?"""
        try:
            with urllib.request.urlopen(f"http://{self.host}/", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False


def emulator_jar() -> Path | None:
    """The emulator's jar: from FIRESTORE_EMULATOR_JAR, the Debian package, or the Google Cloud CLI."""
    if named := os.environ.get("FIRESTORE_EMULATOR_JAR"):
        return Path(named)
    for command in (["dpkg", "-L", PACKAGE], ["gcloud", "info", "--format=value(installation.sdk_root)"]):
        if not shutil.which(command[0]):
            continue
        for line in subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines():
            for path in (Path(line), Path(line) / JAR):
                if path.suffix == ".jar" and path.is_file():
                    return path
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def required_jar() -> Path:
    """The emulator's jar; without it a test is skipped, or fails in CI."""
    jar = emulator_jar()
    if jar is None or not shutil.which("java"):
        message = f"no Firestore emulator: install {PACKAGE} and a Java runtime, or set FIRESTORE_EMULATOR_JAR"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return jar


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[FirestoreEmulator]:
    """A running emulator, the same for all tests."""
    jar = required_jar()
    with tempfile.TemporaryDirectory(prefix="cr-firestore-") as directory:
        emulator = FirestoreEmulator(jar, Path(directory) / "log", free_port())
        emulator.start()
        yield emulator
        emulator.kill()


@pytest.fixture
def firestore_host(firestore_emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """The emulator's address, set where Google's client looks for it."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    return firestore_emulator.host
