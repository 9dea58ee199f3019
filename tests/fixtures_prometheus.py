"""Real Pushgateways, Prometheus, Alertmanagers and their tools, from Debian's packages."""

from __future__ import annotations

import os
import re
import shutil
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
    """A server of Prometheus' family (the program's and the package's name) on loopback; its URL, once it is ready.

    It takes a free port by itself and logs which: one that is chosen before could be taken by another meanwhile.
    """
    log = directory / f"{name}.log"
    with log.open("wb") as out:
        command = [binary(name, name), "--web.listen-address=127.0.0.1:0", *options]
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=directory)
        try:
            url = ""
            while not url or not _ready(url):
                assert process.poll() is None, log.read_text()
                found = re.search(r'"Listening on" address=(\S+)', log.read_text())
                url = f"http://{found[1]}" if found else ""
            yield url
        finally:
            process.kill()
            process.wait()


MEMORY_ONLY = "--persistence.file="
"""Debian's Pushgateway would otherwise share one file with every other one of this machine, past and present."""


@pytest.fixture(scope="session")
def pushgateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Pushgateway of the tests' own."""
    with running("prometheus-pushgateway", MEMORY_ONLY, directory=tmp_path_factory.mktemp("pushgateway")) as url:
        yield url


@pytest.fixture(scope="session")
def promtool() -> Path:
    return Path(binary("promtool", "prometheus"))


@pytest.fixture(scope="session")
def amtool() -> Path:
    return Path(binary("amtool", "prometheus-alertmanager"))
