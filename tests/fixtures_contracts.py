"""The vendors' specifications and the servers made of them: Prism, which a relay makes answer as a test wants.

https://github.com/stoplightio/prism
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType
from typing import IO, NoReturn, Protocol

import pytest
from aiohttp import ClientSession

from tests.contract.relay import Call, Relay
from tests.contract.specifications import directory
from tests.fixtures_vendors import Serve

PRISM = Path(__file__).parent / "contract" / "node_modules" / ".bin" / "prism"
PATIENCE = 60
"""Seconds for Prism to listen: it takes about one."""


@pytest.fixture(scope="session")
def contracts() -> Path:
    """The directory of the vendors' specifications."""
    found = directory()
    if found is None:
        _missing("no vendor specifications: `make contracts` says which files to put where CONTRACTS_DIR points to")
    return found


@pytest.fixture(scope="module")
def prism(request: pytest.FixtureRequest, contracts: Path) -> Iterator[str]:
    """The address of Prism, which speaks as the specification named by the module's ``VENDOR`` until its end."""
    if not PRISM.exists() or not shutil.which("node"):
        _missing("Prism is not installed: `make contracts` does it, where Node.js 20 or newer is there")
    with listening(
        [str(PRISM), "mock", "--errors", "-h", "127.0.0.1", "-p", "0", str(contracts / request.module.VENDOR)]
    ) as url:
        yield url


@contextmanager
def listening(command: list[str]) -> Iterator[str]:
    """Run a server that says where it listens."""
    environment = {**os.environ, "FORCE_COLOR": "0"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout
        address: SimpleQueue[str] = SimpleQueue()
        said: list[str] = []
        reader = threading.Thread(target=_listen, args=(process.stdout, said, address), daemon=True)
        reader.start()
        try:
            url = address.get(timeout=PATIENCE)
            assert url, "".join(said)
            yield url
        finally:
            process.kill()
            reader.join(PATIENCE)


def _listen(output: IO[str], said: list[str], address: SimpleQueue[str]) -> None:
    """Read to the end, so that the server never waits for a reader; an empty address means that it ended."""
    for line in output:
        said.append(line)
        if found := re.search(r"listening on (http://[\d.:]+)", line):
            address.put(found[1])
    address.put("")


class StartRelay(Protocol):
    """Starts a `Relay` to `upstream`."""

    async def __call__(
        self,
        upstream: str,
        *,
        prefer: Mapping[str, str] = MappingProxyType({}),
        spelled: Callable[[Call], Call] = ...,
        status: Callable[[int], int] = ...,
    ) -> Relay: ...


@pytest.fixture
async def relay(serve: Serve) -> AsyncIterator[StartRelay]:
    """Starts relays; they end with the test."""
    async with ClientSession() as session:

        async def start(
            upstream: str,
            *,
            prefer: Mapping[str, str] = MappingProxyType({}),
            spelled: Callable[[Call], Call] = lambda call: call,
            status: Callable[[int], int] = lambda told: told,
        ) -> Relay:
            made = Relay(session, upstream, prefer=prefer, spelled=spelled, status=status)
            made.url = await serve(made.handle)
            return made

        yield start


def _missing(message: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
