"""Real Pushgateways, Prometheus, Alertmanagers and their tools, from Debian's packages."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import pytest


def binary(name: str, package: str) -> str:
    """The program's path; without it the test is skipped on a laptop and fails in CI."""
    path = shutil.which(name)
    if path is None:
        message = f"no {name}: install it with `apt-get install {package}`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the tests' own loopback servers
        text: str = answer.read().decode()
        return text


def _ready(url: str) -> bool:
    try:
        return bool(fetched(f"{url}/-/ready"))
    except (URLError, OSError):
        return False


@contextmanager
def running(name: str, *options: str, directory: Path) -> Iterator[str]:
    """A server of Prometheus' family (the program's and the package's name) on loopback; its URL, once it is ready."""
    address, log = f"127.0.0.1:{free_port()}", directory / f"{name}.log"
    with log.open("wb") as out:
        command = [binary(name, name), f"--web.listen-address={address}", *options]
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=directory)
        try:
            while not _ready(f"http://{address}"):
                assert process.poll() is None, log.read_text()
            yield f"http://{address}"
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def pushgateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Pushgateway of the tests' own."""
    with running("prometheus-pushgateway", directory=tmp_path_factory.mktemp("pushgateway")) as url:
        yield url


@pytest.fixture(scope="session")
def promtool() -> Path:
    return Path(binary("promtool", "prometheus"))


@pytest.fixture(scope="session")
def amtool() -> Path:
    return Path(binary("amtool", "prometheus-alertmanager"))
