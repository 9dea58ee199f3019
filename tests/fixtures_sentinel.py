"""A real master with a replica, watched by a real Sentinel, that can lose the master."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from tests.fixtures_redis import redis_binary
from tests.waiting import eventually

SERVICE = "cache"
HOST = "127.0.0.1"
WAIT = 30.0
"""Seconds after which something does not come any more."""


@dataclass
class SentinelSystem:
    """Two Redis servers and a Sentinel, each on a port of its own."""

    directory: Path
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        self.master, self.replica, self.sentinel = (_free_port() for _ in range(3))
        self._server(self.master)
        self._server(self.replica, "--replicaof", HOST, str(self.master))
        self._until(self.replica, lambda client: client.info("replication").get("master_link_status") == "up")
        lines = (
            f"port {self.sentinel}",
            f"bind {HOST}",
            f"dir {self.directory}",
            f"sentinel monitor {SERVICE} {HOST} {self.master} 1",
            f"sentinel down-after-milliseconds {SERVICE} 500",
            f"sentinel failover-timeout {SERVICE} 3000",
        )
        configuration = self.directory / "sentinel.conf"
        configuration.write_text("\n".join(lines) + "\n")
        self._run(self.sentinel, str(configuration), "--sentinel")
        self._until(self.sentinel, lambda client: bool(client.sentinel_slaves(SERVICE)))

    def url(self, database: int = 1) -> str:
        return f"redis+sentinel://{HOST}:{_free_port()},{HOST}:{self.sentinel}/{SERVICE}/{database}"

    @property
    def broker_url(self) -> str:
        return f"sentinel://{HOST}:{self.sentinel}/0"

    def replicated(self) -> None:
        """Return when the replica has everything that was written."""
        with redis.Redis(host=HOST, port=self.master) as client:
            assert client.wait(1, 10_000) == 1

    def fail_over(self) -> None:
        """Kill the master; returns when the Sentinel has promoted the replica."""
        master = self.processes.pop(self.master)
        master.kill()
        master.wait()
        self._until(
            self.sentinel, lambda client: str(self.replica) in str(client.sentinel_get_master_addr_by_name(SERVICE))
        )
        self._until(self.replica, lambda client: client.info("replication")["role"] == "master")

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def _server(self, port: int, *options: str) -> None:
        self._run(port, "--port", str(port), "--bind", HOST, "--dir", str(self.directory), "--save", "", *options)

    def _run(self, port: int, *arguments: str) -> None:
        command = [redis_binary(), *arguments]
        self.processes[port] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._until(port, lambda client: bool(client.ping()))

    def _until(self, port: int, wanted: Callable[[redis.Redis], bool]) -> None:
        with redis.Redis(host=HOST, port=port) as client:

            def there() -> bool:
                with contextlib.suppress(redis.RedisError):
                    return wanted(client)
                return False

            eventually(f"what is wanted of port {port}", there, WAIT)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def sentinel() -> Iterator[SentinelSystem]:
    with tempfile.TemporaryDirectory(prefix="cr-sentinel-") as directory:
        system = SentinelSystem(Path(directory))
        try:
            system.start()
            yield system
        finally:
            system.end()
