"""Pairs that no vendor knows, put into a Redis of the benchmark's own by the faces that real ones come by.

Tenants have ids of 20 characters and all five connectors each; what their checks found is as long as what the built-in
connectors find (steps, scopes, quota, expiry).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import redis

from benchmarks.servers import redis_program
from registry.bootstrap import Parts, assemble
from registry.check import CheckSession
from registry.clock import steady
from registry.connector import ConnectorConfig
from registry.health import Evidence, Fault, HealthCheck, Quota, Reason, Verdict
from registry.ids import Pair
from registry.pace import spread
from registry.recording import Outcome
from registry.schedule import Claim, Entry, Scheduled, Task
from worker.batch import Batch

if TYPE_CHECKING:
    from registry.settings import Settings

CONNECTORS = ("github", "gitlab", "linear", "slack", "vertex")
PAGE = 500

_STEPS = {
    "github": ("api", "auth", "permissions", "quota"),
    "gitlab": ("api", "auth", "permissions", "quota"),
    "linear": ("api", "auth", "quota"),
    "slack": ("api", "auth", "permissions"),
    "vertex": ("auth", "api", "permissions"),
}
_EVIDENCE: dict[str, Evidence] = {
    "github": {"scopes": "repo read:org"},
    "gitlab": {"scopes": "api"},
    "linear": {"workspace": "globex-production"},
    "slack": {"workspace": "globex", "team_id": "T0DEMO123", "scopes": "chat:write channels:read users:read"},
    "vertex": {"location": "projects/globex-production/locations/europe-west4"},
}


@contextmanager
def redis_server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis of the benchmark's own on a Unix socket: its URL and its process."""
    binary = redis_program()
    with tempfile.TemporaryDirectory(prefix="cr-bench-") as directory:
        socket = Path(directory) / "redis.sock"
        command = [binary, "--port", "0", "--unixsocket", str(socket), "--dir", directory, "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(unix_socket_path=str(socket)) as client:
                while not _answers(client):
                    assert process.poll() is None
            yield f"unix://{socket}?db=1", process
        finally:
            process.kill()
            process.wait()


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[Parts]:
    """Parts for as long as they are used."""
    parts = assemble(settings)
    try:
        yield parts
    finally:
        await parts.aclose()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def pairs(many: int) -> Iterator[Pair]:
    """`many` pairs, five a tenant."""
    for n in range(many):
        yield Pair(CONNECTORS[n % 5], f"acme-customer-{n // 5:06}")


def config(pair: Pair) -> ConnectorConfig:
    """A configuration whose secret is in Google Secret Manager."""
    secret = f"gcp://projects/globex-prod/secrets/connector-{pair.tenant}--{pair.connector}/versions/1"
    if pair.connector == "vertex":
        where = {"project": "globex-production", "location": "europe-west4"}
        return ConnectorConfig.model_validate({"auth": {"type": "service_account", "key": secret}, "settings": where})
    return ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": secret}})


def verdict(pair: Pair, now_ms: int) -> Verdict:
    """What a good check of the pair finds."""
    first, *rest = _STEPS[pair.connector]
    limited = "quota" in _STEPS[pair.connector]
    return Verdict(
        Reason.OK,
        Fault.NONE,
        now_ms,
        steps=(HealthCheck(first, duration_ms=182), *rest),
        latency_ms=183,
        metadata=_EVIDENCE[pair.connector],
        quota=Quota(5000, 4990, now_ms // 3_600_000 * 3_600_000 + 3_600_000) if limited else None,
        credential_expires_ms=now_ms // 1000 * 1000 + 25_920_000_000 if pair.connector == "gitlab" else None,
    )


async def enter(parts: Parts, many: int, *, within: float = 60.0) -> None:
    """Enter `many` pairs, each due at its own phase of the coming seconds `within`."""
    parts.clock.calibrate(await parts.redis.time(), steady())
    interval = within * 1000
    for page in _paged(many):
        now = parts.clock.now_ms()
        entries = [
            Entry(pair, 1, config(pair), reset=False, due_ms=now + int(spread(pair) * interval), announce=False)
            for pair in page
        ]
        await parts.schedule.put_many(entries)


async def check(parts: Parts, many: int) -> None:
    """Record a good check of each of the first `many` pairs."""
    for page in _paged(many):
        fence = await parts.schedule.fence(page[-1])
        now = parts.clock.now_ms()
        tasks = [Task(Scheduled(pair, 1, None), None, fence) for pair in page]
        await parts.recorder.record(
            [Outcome(task, verdict(task.pair, now), f"{task.pair.connector}|vendor.example.com") for task in tasks]
        )


async def batch(parts: Parts, pairs: Sequence[Pair]) -> Batch:
    """These pairs of one connector as a batch that was claimed now."""
    by_shard: dict[int, list[str]] = {}
    for pair in pairs:
        by_shard.setdefault(parts.schedule.shard(pair), []).append(pair.tenant)
    fence = await parts.schedule.fence(pairs[0])
    claims = [Claim(pairs[0].connector, shard, fence, tuple(tenants)) for shard, tenants in by_shard.items()]
    return Batch(f"batch-{fence}", pairs[0].connector, tuple(claims))


def _paged(many: int) -> Iterator[list[Pair]]:
    page: list[Pair] = []
    for pair in pairs(many):
        page.append(pair)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def cpu_seconds(pid: int | None = None) -> float:
    """CPU seconds a process has used so far (None: this one)."""
    fields = Path(f"/proc/{pid or os.getpid()}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int | None = None, *, peak: bool = False) -> int:
    """The memory a process (None: this one) holds, or has held at most."""
    name = "VmHWM" if peak else "VmRSS"
    lines = Path(f"/proc/{pid or os.getpid()}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def forget_peak() -> None:
    """From here on this process' peak of memory is counted anew: https://docs.kernel.org/filesystems/proc.html"""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def cpu_nanoseconds(pid: int) -> int:
    """Nanoseconds a process's main thread has run so far: finer than `cpu_seconds`."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="utf-8").split()[0])


class Plain:
    """What the benchmarks' own connectors have in common; each adds its `manifest` and `check`."""

    actions: ClassVar[Mapping[Reason, str]] = {}

    def __init__(self, config: ConnectorConfig) -> None:
        self.config = config

    @classmethod
    def validate(cls, config: ConnectorConfig) -> None:
        """Everything is valid."""

    @classmethod
    async def check_service(cls, session: CheckSession, base_url: str) -> None:
        """Nobody is asked."""

    async def aclose(self) -> None:
        """Nothing is held."""
