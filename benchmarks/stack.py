"""The real system for a benchmark: Redis, demo vendors, beat and workers, each a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import aiohttp
import psutil

from benchmarks.servers import redis_program
from benchmarks.settings import Settings
from registry.bootstrap import Parts, assemble
from registry.health import HealthStatus
from registry.ids import Pair
from worker.demo.tenants import CONNECTORS, demo_tenants
from worker.local.processes import APPLICATION

Page: TypeAlias = "dict[Pair, HealthStatus]"
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
"""Seals the demo's made-up tokens."""
SLACK = "vendors-slack"
"""The process that is Slack, which can be killed alone: when no vendor answers, it is our own network."""


@dataclass
class Stack:
    """What a benchmark sees of the system: its parts, from a consumer's side, and its processes."""

    directory: Path
    variables: dict[str, str] = field(default_factory=dict)
    tenants: list[str] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    parts: Parts = field(init=False)

    async def page(self) -> Page:
        """What a consumer reads of every pair now."""
        found: Page = {}
        for tenant in self.tenants:
            statuses = await self.parts.cache.statuses(tenant, CONNECTORS)
            found |= {Pair(name, tenant): status for name, status in statuses.items()}
        return found

    async def until(self, wanted: Callable[[Page], bool], *, within: float = 180.0) -> None:
        """Wait for what a consumer reads."""
        async with asyncio.timeout(within):
            while not wanted(await self.page()):  # noqa: ASYNC110 - other processes do it
                await asyncio.sleep(0.05)

    def start(self, name: str, *command: str) -> None:
        """Start a process of the system; its output goes to a file of its name."""
        with (self.directory / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.directory,
                env=os.environ | {name.upper(): value for name, value in self.variables.items()},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def application(self, name: str, copy: int) -> None:
        """Start one of the system's own processes (`worker.local.processes`), as one of several."""
        line = next(process for process in APPLICATION if process.name == name).started_by()
        self.start(f"{name}-{copy}", *shlex.split(line.replace("@%h", f"-{copy}@%h")))

    def kill(self, name: str) -> None:
        """``kill -9`` a process with all its children."""
        process = self.processes.pop(name)
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()

    async def play(self, fault: str, tenant: str = "*", connector: str = "*") -> None:
        """Let the demo vendors play a fault from now on."""
        for url in self._vendors:
            async with aiohttp.ClientSession() as session:
                control = f"{url}/control/{tenant}/{connector}"
                async with session.post(control, json={"fault": fault}) as answer:
                    assert answer.status == 200

    async def requests(self) -> Counter[str]:
        """How many calls each connector's vendor has had; Google's exchanges of tokens are Vertex AI's."""
        calls: Counter[str] = Counter()
        for url in self._vendors:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/control") as answer:
                for vendor, count in (await answer.json())["requests"].items():
                    calls["vertex" if vendor == "google" else vendor] += count
        return calls

    @property
    def _vendors(self) -> set[str]:
        urls = json.loads(self.variables["vendor_urls"])
        return {url.removesuffix(f"/{name}") for name, url in urls.items()}


@asynccontextmanager
async def stack(tenants: int, *, copies: int = 1, **pace: str) -> AsyncIterator[Stack]:
    """A running system that has checked every pair of `tenants` demo tenants.

    Args:
        copies: of beat and of each worker.
        pace: further environment variables, in lower case.
    """
    with tempfile.TemporaryDirectory(prefix="cr-stack-") as name:
        directory = Path(name)
        here = Stack(directory)
        try:
            vendors = await _servers(here)
            here.variables = _variables(directory, vendors) | pace
            urls = json.loads(here.variables["vendor_urls"])
            here.parts = assemble(Settings.model_validate({**here.variables, "vendor_urls": urls}))
            for tenant, configs in demo_tenants(tenants, vendors["github"])["tenants"].items():
                for connector, config in configs.items():
                    placed = {**config, "base_url": f"{vendors[connector]}/{connector}"}
                    await here.parts.configurations.set(Pair(connector, tenant), placed, actor="benchmark")
                here.tenants.append(tenant)
            for copy in range(copies):
                for process in ("beat", "worker-dispatch", "worker-checks", "worker-publish"):
                    here.application(process, copy)
            await here.until(lambda page: all(status.checked_ms for status in page.values()))
            yield here
            await here.parts.aclose()
        finally:
            for process in list(here.processes):
                here.kill(process)


async def _servers(here: Stack) -> dict[str, str]:
    """Start Redis and the demo vendors, Slack apart from the others; returns where each vendor is."""
    here.start(
        "redis", redis_program(), "--port", "0", "--unixsocket", str(here.directory / "redis.sock"), "--save", ""
    )
    ports = {name: here.directory / f"{name}.port" for name in ("vendors", SLACK)}
    for name, port in ports.items():
        here.start(name, sys.executable, "-m", "worker.demo.vendors", "--port", "0", "--port-file", str(port))
    ready = (here.directory / "redis.sock", *ports.values())
    while not all(file.exists() for file in ready) or not all(port.read_text() for port in ports.values()):  # noqa: ASYNC110 - processes start
        await asyncio.sleep(0.05)
    urls = {name: f"http://127.0.0.1:{port.read_text()}" for name, port in ports.items()}
    return {name: urls[SLACK if name == "slack" else "vendors"] for name in CONNECTORS}


def _variables(directory: Path, vendors: dict[str, str]) -> dict[str, str]:
    redis = directory / "redis.sock"
    return {
        "redis_url": f"unix://{redis}?db=1",
        "broker_url": f"redis+socket://{redis}?virtual_host=0",
        "sqlite_path": str(directory / "registry.db"),
        "encryption_keys": KEY,
        "egress_allow": "127.0.0.0/8",
        "vendor_urls": json.dumps({name: f"{url}/{name}" for name, url in vendors.items()}),
        "status_pages_every": "0",
        "read_timeout": "2",
        "log_level": "WARNING",
    }
