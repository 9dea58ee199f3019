"""What reading verdicts through the facade costs, beside the bare redis-py command that fetches the same records.

Synchronous is measured against synchronous, asynchronous against asynchronous, over TCP and a Unix socket. Every status
of a page is looked at (`healthy`), as whoever asks for a page does.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Figure, run
from benchmarks.servers import redis_program
from benchmarks.settings import Settings
from registry import ConnectorRegistry, HealthView, keys
from registry.bootstrap import assemble
from registry.connection import connect, connect_sync
from registry.connector import Connector, ConnectorConfig
from registry.connectors import CONNECTORS
from registry.health import Fault, HealthCheck, Quota, Reason, StepStatus, Verdict
from registry.ids import Pair
from registry.recording import Outcome

CONFIG = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://TOKEN"}})
STEPS = tuple(HealthCheck(name, StepStatus.PASS, 1.5) for name in ("api", "auth", "permissions", "quota"))
BUDGET = {"read": 1.3, "page": 1.5}
"""The most a read may take, as a multiple of the bare command."""

Call = Callable[[], object]
Asked = Callable[[], Awaitable[object]]


def figures(*, short: bool) -> list[Figure]:
    """One verdict, and pages of 5 and of 50 connectors."""
    rounds, calls = (5, 300) if short else (25, 1_000)
    found: list[Figure] = []
    with _redis() as urls:
        for way, url in urls.items():
            for size in (5, 50):
                settings = Settings.model_validate({"redis_url": url, "config_store": "memory", "read_timeout": 2.0})
                asyncio.run(_fill(settings, size))
                found += _sync(settings, way, size, rounds, calls)
                found += asyncio.run(_async(settings, way, size, rounds, calls))
    return found


@contextmanager
def _redis() -> Iterator[dict[str, str]]:
    """The URLs of a server of this benchmark's own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="cr-reads-") as directory:
        path = Path(directory) / "redis.sock"
        command = [redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(path)]
        process = subprocess.Popen([*command, "--save", "", "--dir", directory], stdout=subprocess.DEVNULL)
        try:
            while not path.exists():
                time.sleep(0.01)
            yield {"TCP": f"redis://127.0.0.1:{port}/1", "Unix socket": f"unix://{path}?db=1"}
        finally:
            process.terminate()
            process.wait()


def _tenant(size: int) -> str:
    return f"acme-{size}"


def _names(size: int) -> list[str]:
    """`size` connectors that a registry knows: the built-in ones, then made-up ones."""
    return [*CONNECTORS, *(f"made-up-{n}" for n in range(size))][:size]


async def _fill(settings: Settings, size: int) -> None:
    """The newest verdict of every connector; they stay fresh for longer than the measurement takes."""
    parts = assemble(settings)
    for name in _names(size):
        pair = Pair(name, _tenant(size))
        await parts.schedule.put(pair, 1, CONFIG, reset=True)
        task = await parts.schedule.task(pair)
        assert task is not None
        now = parts.clock.now_ms()
        told = {"scopes": "repo, user"}
        verdict = Verdict(
            Reason.OK, Fault.NONE, now, steps=STEPS, latency_ms=42.5, metadata=told, quota=Quota(5000, 4999, now)
        )
        assert await parts.recorder.record([Outcome(task, verdict, f"{name}|{name}.example.com")])
    await parts.redis.set(keys.epoch(keys.shard_of(_tenant(size), settings.shards)), 1)
    await parts.aclose()


def _sync(settings: Settings, way: str, size: int, rounds: int, calls: int) -> Iterator[Figure]:
    records = _records(settings, size)
    with connect_sync(settings.redis_url, 2.0) as raw, HealthView(settings.redis_url, timeout=2.0) as view:

        def one() -> None:
            assert view.status(_names(1)[0], _tenant(size)).healthy

        def page() -> None:
            statuses = view.statuses(_tenant(size))
            assert len(statuses) == size
            assert all(status.healthy for status in statuses.values())

        if size == 5:
            yield _figure(f"one verdict, sync, {way}", "GET", _turns(one, lambda: raw.get(records[0]), rounds, calls))
        yield _figure(f"{size} connectors, sync, {way}", "MGET", _turns(page, lambda: raw.mget(records), rounds, calls))


async def _async(settings: Settings, way: str, size: int, rounds: int, calls: int) -> list[Figure]:
    records, found = _records(settings, size), []
    async with connect(settings.redis_url, 2.0) as raw, ConnectorRegistry(assemble(settings)) as registry:
        manifest = await registry.get_metadata(_names(1)[0])
        for name in _names(size)[len(CONNECTORS) :]:
            registry.register(name, _never, manifest=manifest.model_copy(update={"name": name}))

        async def one() -> None:
            assert (await registry.health_check(_names(1)[0], tenant_id=_tenant(size))).healthy

        async def page() -> None:
            statuses = await registry.health_check_all(tenant_id=_tenant(size))
            assert len(statuses) == size
            assert all(status.healthy for status in statuses.values())

        if size == 5:
            sides = await _turns_async(one, lambda: raw.get(records[0]), rounds, calls)
            found.append(_figure(f"one verdict, async, {way}", "GET", sides))
        sides = await _turns_async(page, lambda: raw.mget(records), rounds, calls)
        found.append(_figure(f"{size} connectors, async, {way}", "MGET", sides))
    return found


def _records(settings: Settings, size: int) -> list[str]:
    shard = keys.shard_of(_tenant(size), settings.shards)
    return [keys.verdict(shard, Pair(name, _tenant(size))) for name in _names(size)]


def _never(*_: object) -> Connector:
    raise AssertionError("reading builds no connector")


def _turns(ours: Call, other: Call, rounds: int, calls: int) -> list[tuple[float, float]]:
    """Microseconds a call of each side, in rounds in which they take turns; the first round only warms up."""

    def timed(call: Call) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - started) / calls * 1e6

    return [(timed(ours), timed(other)) for _ in range(rounds + 1)][1:]


async def _turns_async(ours: Asked, other: Asked, rounds: int, calls: int) -> list[tuple[float, float]]:
    async def timed(call: Asked) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            await call()
        return (time.perf_counter() - started) / calls * 1e6

    return [(await timed(ours), await timed(other)) for _ in range(rounds + 1)][1:]


def _figure(what: str, command: str, sides: list[tuple[float, float]]) -> Figure:
    row = "read" if command == "GET" else "page"
    ours, other = (statistics.median(side) for side in zip(*sides, strict=True))
    ratio = statistics.median(a / b for a, b in sides)
    goal = f"≤ {BUDGET[row]} × raw {command}"
    return Figure(row, what, ours, "µs", other, f"raw {command}", ratio, goal, reached=ratio <= BUDGET[row])


if __name__ == "__main__":
    run(figures)
