"""Two hosts with a beat and two workers each, all at once on one Redis: workers are killed, join and leave.

Each process is a group of its own and, where the kernel lets us, has its own hostname and process ids, as a container
has. The network is everybody's: what a cut network does is another test's story.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

import psutil
import pytest
import redis
from celery import Celery

from registry import keys
from registry.bootstrap import assemble
from registry.ids import Pair
from registry.schedule import Claim
from registry.settings import Settings
from tests.e2e.test_up import environment
from tests.fixtures_redis import RedisServer
from tests.waiting import eventually
from worker.batch import Batch
from worker.demo.tenants import demo_tenants
from worker.demo.vendors import DemoVendors
from worker.heartbeat import trouble

TENANTS = 60
CONNECTORS = ("github", "gitlab", "linear", "slack")
INTERVAL, LEASE = 2.0, 6.0
BOUND = max(INTERVAL, LEASE) + 5.0
"""Seconds a pair may be overdue, whatever happens to a worker."""

CELERY = (sys.executable, "-m", "celery", "--app", "worker.app")
Numbers: TypeAlias = "dict[bytes, bytes]"

LEAN = ("--without-gossip", "--without-mingle", "--without-heartbeat")


def apart() -> bool:
    """May we give a process its own hostname and process ids?"""
    command = ["unshare", "--uts", "--pid", "--fork", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@dataclass
class Fleet:
    """The processes of all hosts."""

    directory: Path
    environment: dict[str, str]
    apart: bool = field(default_factory=apart)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *arguments: str) -> None:
        """Start a process; its name is its host's."""
        command = [*CELERY, *arguments]
        if self.apart:
            inside = ["sh", "-c", f'hostname {name} && exec "$@"', "sh", *command]
            command = ["unshare", "--uts", "--pid", "--fork", "--kill-child", *inside]
        with (self.directory / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=self.directory, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def worker(self, name: str, queues: str) -> None:
        self.start(name, "worker", "--queues", queues, "--concurrency", "2", "--hostname", f"{name}@%h", *LEAN)

    def tell(self, name: str, number: signal.Signals) -> None:
        """Send a signal to everything that belongs to a process, but a request to end to its head alone."""
        process = psutil.Process(self.processes[name].pid)
        group = [process, *process.children(recursive=True)]
        head = 1 if self.apart else 0  # unshare only waits
        for each in [group[head]] if number is signal.SIGTERM else group:
            with suppress(psutil.NoSuchProcess):  # it ended with the one before it
                each.send_signal(number)

    def parent(self, pid: int) -> str:
        """The process that this is a child of."""
        above = {process.pid for process in psutil.Process(pid).parents()}
        return next(name for name, process in self.processes.items() if process.pid in above)

    def end(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is None:
                self.tell(name, signal.SIGKILL)
            process.wait()


@dataclass
class System:
    """What the test sees: the fleet, the vendors' own counters, and the state in Redis."""

    fleet: Fleet
    vendors: DemoVendors
    redis: redis.Redis
    shards: int = 4

    def calls(self) -> Counter[tuple[str, str]]:
        """How often each pair has called its vendor, by the vendors' own account."""
        return Counter((vendor, tenant) for _, vendor, tenant in list(self.vendors.journal) if tenant)

    def fact(self, name: str) -> int:
        return int(self.redis.hget(keys.PLATFORM, name) or 0)

    def checked(self) -> int:
        """How many checks were recorded."""
        counters = [cast("Numbers", self.redis.hgetall(keys.counters(shard))) for shard in range(self.shards)]
        return sum(int(n) for each in counters for name, n in each.items() if name.startswith(b"checks|"))

    def tally(self) -> tuple[int, int, int]:
        """Claims, calls that reached a vendor, and recorded checks."""
        return self.fact("claimed"), sum(self.vendors.requests.values()), self.checked()

    def in_flight(self) -> int:
        return self._batches(f"({self.now() * 1000}", "+inf")

    def dropped(self) -> int:
        """Batches that no worker began in time, as on a machine that is too busy: their pairs are claimed anew."""
        return self.fact("batches_expired") + self.fact("batches_lost") + self._batches("-inf", f"{self.now() * 1000}")

    def _batches(self, low: str, high: str) -> int:
        return sum(self.redis.zcount(keys.batches(name), low, high) for name in (*CONNECTORS, "vertex"))

    def now(self) -> float:
        """Seconds, by Redis' clock."""
        seconds, micros = self.redis.time()
        return seconds + micros / 1e6

    def settled(self) -> bool:
        """Is nothing under way, no check doubled, and none lost but with its batch?"""
        claimed, called, checked = self.tally()
        lost = claimed - called
        return not self.in_flight() and called == checked and (lost > 0 if self.dropped() else lost == 0)

    def publisher(self) -> str:
        """The name of the process that pushed last."""
        return self._home(cast("bytes", self.redis.hget(keys.lease("publisher"), "owner") or b"").decode())

    def _home(self, owner: str) -> str:
        """The process that an owner of something is a child of."""
        host, pid, _ = owner.split(":")
        return host if self.fleet.apart else self.fleet.parent(int(pid))

    def check_processes(self) -> int:
        return int(self.redis.zcard(keys.CHILDREN))

    def overdue(self, since: float) -> float:
        """Seconds by which the latest pair is overdue; what was late before `since` (Unix seconds) counts from then.

        By the vendors' own account: the schedule shows a claimed pair as due when its lease ends.
        """
        last = {(vendor, tenant): at for at, vendor, tenant in list(self.vendors.journal) if tenant}
        return time.time() - min(max(at + INTERVAL, since) for at in last.values())

    def send_expired(self, batch: str) -> None:
        """Send a batch whose time is over, as a queue does that no worker has emptied for long."""
        self.redis.zadd(keys.batches("github"), {batch: time.time() * 1000 + 600_000})
        message = Batch(batch, "github", (Claim("github", 0, 1, ("nobody",)),)).message()
        with Celery(broker=self.fleet.environment["BROKER_URL"]) as sender:
            sender.send_task("check_batch", (message,), queue="checks")

    def checked_again(self, times: int) -> None:
        """Wait until every pair has been checked so many times more, and see that none is overdue meanwhile."""
        before, latest, since = self.calls(), 0.0, time.time()

        def all_called() -> bool:
            nonlocal latest
            latest, after = max(latest, self.overdue(since)), self.calls()
            return all(after[pair] - before[pair] >= times for pair in before)  # a pair missing here was lost

        eventually(f"every pair is checked {times} times more", all_called)
        assert latest <= BOUND


@pytest.fixture
async def system(
    settings: Settings, redis_server: RedisServer, script: DemoVendors, pushgateway: str, tmp_path: Path
) -> AsyncIterator[System]:
    base = script.url
    parts = assemble(settings)
    for tenant, configs in demo_tenants(TENANTS, base)["tenants"].items():
        for name in CONNECTORS:
            await parts.configurations.set(Pair(name, tenant), {**configs[name], "base_url": None}, actor="test")
    await parts.aclose()
    fleet = Fleet(tmp_path, environment() | ours(settings, base, pushgateway))
    with redis_server.client() as client:
        try:
            yield System(fleet, script, client)
        finally:
            fleet.end()


def ours(settings: Settings, base: str, pushgateway: str) -> dict[str, str]:
    given = ("redis_url", "sqlite_path", "secrets_dir", "shards")
    return {name.upper(): str(getattr(settings, name)) for name in given} | {
        "BROKER_URL": f"redis+socket://{settings.redis_url.removeprefix('unix://').partition('?')[0]}?virtual_host=0",
        "ENCRYPTION_KEYS": settings.encryption_keys[0].get_secret_value(),
        "EGRESS_ALLOW": "127.0.0.0/8",
        "VENDOR_URLS": json.dumps({name: f"{base}/{name}" for name in (*CONNECTORS, "vertex")}),
        "CHECK_INTERVAL": str(INTERVAL),
        "CLAIM_LEASE": str(LEASE),
        "DISPATCH_EVERY": "0.5",
        "PUBLISH_EVERY": "1",
        "STATUS_PAGES_EVERY": "0",
        "PUSHGATEWAY_URL": pushgateway,
        "PUSHGATEWAY_JOB": "fleet",
        "HEARTBEAT_DIR": "heartbeats",
    }


def test_workers_join_leave_and_die_and_no_check_is_lost_or_doubled(system: System) -> None:
    fleet = system.fleet
    for host in ("one", "two"):
        fleet.start(f"beat-{host}", "beat")
        fleet.worker(f"ticks-{host}", "dispatch,publish")
        fleet.worker(f"checks-{host}", "checks")
    eventually("every pair is checked", lambda: len(system.calls()) == TENANTS * len(CONNECTORS))
    system.checked_again(1)

    fleet.worker("checks-three", "checks")
    fleet.tell("checks-two", signal.SIGTERM)
    assert fleet.processes["checks-two"].wait(30) == 0
    eventually("one has joined and one has left", lambda: system.check_processes() == 4)
    system.checked_again(1)
    for host in ("one", "two"):
        fleet.tell(f"beat-{host}", signal.SIGSTOP)
    eventually("all is done, once", system.settled)
    expired = system.fact("batches_expired")
    system.send_expired("forgotten")
    eventually("a batch that waited too long is counted", lambda: system.fact("batches_expired") == expired + 1)
    assert system.in_flight() == 0
    for host in ("one", "two"):
        fleet.tell(f"beat-{host}", signal.SIGCONT)

    fleet.tell("checks-one", signal.SIGKILL)
    fleet.worker("checks-four", "checks")
    system.checked_again(2)

    fleet.tell(system.publisher(), signal.SIGKILL)
    fence = system.fact("publisher_fence")
    eventually("another publishes", lambda: system.fact("publisher_fence") > fence)
    system.checked_again(1)
    assert trouble(fleet.directory / "heartbeats", "checks") is None
