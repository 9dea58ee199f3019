"""The HTTP API while the system works: streams and reads of one server process beside real workers and 1,000 checks/s.

Beat, workers, Redis and the API are processes of their own; nginx is the vendor. Reads are asked for at fixed times,
whether earlier ones are answered or not, and timed from then. Some pairs turn to and fro, and every client of a stream
notes when it is told. It is one run of half a minute: its percentiles are of 15,000 reads and 30,000 tellings.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
from pydantic import SecretStr

from benchmarks.figures import Figure, run
from benchmarks.settings import Settings
from benchmarks.stack import KEY, Stack
from benchmarks.synthetic import assembled, redis_server
from benchmarks.targets import Target, free_port, listening, nginx
from registry import keys
from registry.bootstrap import Parts
from registry.connector import ConnectorConfig
from registry.health import Fault, Reason, Verdict
from registry.ids import Pair
from registry.record import seen as verdict_of
from registry.recording import Outcome
from registry.roles import Role
from registry.schedule import Entry
from registry.secrets.encrypted import EncryptedSecrets
from worker.demo.tenants import CONNECTORS

INTERVAL = 10
CHECKS, GETS, CLIENTS, TURNS = 1_000, 500, 200, 10
"""Checks, reads and transitions a second; half of the clients hear of everybody, half of one tenant."""

TURNING = 20
"""Tenants with a pair that turns."""

TOLD = 1.0
"""Seconds within which a client is to be told of a transition."""


@dataclass
class Seen:
    """What was measured."""

    gets: list[float] = field(default_factory=list)
    heard: list[tuple[int, float]] = field(default_factory=list)
    """The verdict's version of each transition that a client was told, and when: perhaps before its maker knew it."""
    failed: int = 0
    turned: dict[int, float] = field(default_factory=dict)
    """When each transition was made, by the verdict's version."""

    @property
    def told(self) -> list[float]:
        """Seconds from each transition until each client was told."""
        return [at - self.turned[version] for version, at in self.heard if version in self.turned]


def figures(*, short: bool) -> list[Figure]:
    """The row ``api``."""
    return asyncio.run(_figures(seconds=5 if short else 30))


async def _figures(seconds: float) -> list[Figure]:
    with nginx() as target, redis_server() as (redis, _), tempfile.TemporaryDirectory(prefix="cr-api-") as directory:
        async with _system(Path(directory), target, redis) as (here, parts, token, url):
            api = psutil.Process(here.processes["api-0"].pid)
            before, spent, began = await _checks(parts), sum(api.cpu_times()[:2]), time.perf_counter()
            seen = await _load(parts, url, token, seconds)
            passed = time.perf_counter() - began
            checks = (await _checks(parts) - before) / passed
            busy = (sum(api.cpu_times()[:2]) - spent) / passed
            return _told(seen, seconds, checks, busy, api.memory_info().rss)


@asynccontextmanager
async def _system(directory: Path, target: Target, redis: str) -> AsyncIterator[tuple[Stack, Parts, str, str]]:
    """Everything runs, and every pair was checked: processes, a consumer's parts, a token, and the API's address."""
    port = free_port()
    variables = {
        "redis_url": redis,
        "broker_url": redis.replace("unix://", "redis+socket://").replace("?db=1", "?virtual_host=0"),
        "sqlite_path": str(directory / "registry.db"),
        "encryption_keys": KEY,
        "egress_allow": "127.0.0.0/8",
        "vendor_urls": json.dumps(dict.fromkeys(CONNECTORS, target.plain)),
        "check_interval": str(INTERVAL),
        "status_pages_every": "0",
        "read_timeout": "2",
        "log_level": "WARNING",
        "api_port": str(port),
        "api_rate": "1000000",
        "api_burst": "1000000",
    }
    here = Stack(directory, variables)
    settings = Settings.model_validate({**variables, "vendor_urls": json.loads(variables["vendor_urls"])})
    async with assembled(settings) as parts:
        await _enter(parts)
        _, token = await parts.access.create(Role.READER, actor="benchmark")
        try:
            for process in ("beat", "worker-dispatch", "worker-checks", "api"):
                here.application(process, 0)
            async with asyncio.timeout(180):
                while await _checks(parts) < CHECKS * INTERVAL or not listening(port):  # noqa: ASYNC110 - others do it
                    await asyncio.sleep(0.05)
            yield here, parts, token.get_secret_value(), f"http://127.0.0.1:{port}"
        finally:
            for process in list(here.processes):
                here.kill(process)


async def _enter(parts: Parts) -> None:
    """Pairs that are checked in turn, and some that nobody checks, which turn."""
    sealing = EncryptedSecrets([SecretStr(KEY)])
    await parts.reconciler.run()
    now = parts.clock.now_ms()

    async def entry(pair: Pair, due_ms: int) -> Entry:
        token = await sealing.seal(pair, "token", SecretStr(f"ghp_benchmark_of_{pair.tenant}"))
        config = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": token}})
        return Entry(pair, 1, config, reset=True, due_ms=due_ms, announce=False)

    many = CHECKS * INTERVAL
    entries = [await entry(Pair("github", f"acme-{n}"), now + n * INTERVAL * 1000 // many) for n in range(many)]
    entries += [await entry(pair, now + 3_600_000) for pair in _turning()]
    for at in range(0, len(entries), 500):
        await parts.schedule.put_many(entries[at : at + 500])


async def _load(parts: Parts, url: str, token: str, seconds: float) -> Seen:
    """Streams, reads and transitions for so long."""
    seen, ready = Seen(), asyncio.Semaphore(0)
    whom = ["/v1/transitions/stream", *(f"/v1/tenants/{pair.tenant}/transitions/stream" for pair in _turning())]
    paths = [whom[0] if n % 2 else whom[1 + n // 2 % TURNING] for n in range(CLIENTS)]
    async with aiohttp.ClientSession(
        base_url=url, headers={"Authorization": f"Bearer {token}"}, connector=aiohttp.TCPConnector(limit=0)
    ) as http:
        streams = [asyncio.create_task(_listen(http, path, seen, ready)) for path in paths]
        async with asyncio.timeout(60):
            for _ in streams:
                await ready.acquire()
        await asyncio.gather(_ask(http, seen, seconds), _turn(parts, seen, seconds))
        await asyncio.sleep(TOLD)  # the last ones are on their way
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    return seen


async def _listen(http: aiohttp.ClientSession, path: str, seen: Seen, ready: asyncio.Semaphore) -> None:
    """One client of a stream."""
    async with http.get(path, timeout=aiohttp.ClientTimeout()) as answer:
        async for line in answer.content:
            if line.startswith(b"event: gap"):
                ready.release()
            elif line.startswith(b"data: {") and len(line) > len(b"data: {}\n"):
                seen.heard.append((json.loads(line[6:])["version"], time.perf_counter()))


async def _ask(http: aiohttp.ClientSession, seen: Seen, seconds: float) -> None:
    """Reads at their times: most of one pair, some of a whole tenant."""
    chosen, began = random.Random(1), time.perf_counter()  # noqa: S311 - whom to ask about
    asked = set[asyncio.Task[None]]()

    async def get(path: str, due: float) -> None:
        try:
            async with http.get(path) as answer:
                await answer.read()
                seen.failed += answer.status != 200
        except (aiohttp.ClientError, TimeoutError):
            seen.failed += 1
        seen.gets.append(time.perf_counter() - due)

    for number in range(int(GETS * seconds)):
        due = began + number / GETS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tenant = f"/v1/tenants/acme-{chosen.randrange(CHECKS * INTERVAL)}"
        task = asyncio.create_task(get(f"{tenant}{'/connectors/github/health' if number % 5 else '/health'}", due))
        asked.add(task)
        task.add_done_callback(asked.discard)
    await asyncio.gather(*asked)


async def _turn(parts: Parts, seen: Seen, seconds: float) -> None:
    """Let pairs turn, one after the other: the first time to good, then to bad and good again."""
    pairs, began = _turning(), time.perf_counter()
    for number in range(int(TURNS * seconds)):
        await asyncio.sleep(max(0.0, began + number / TURNS - time.perf_counter()))
        pair, bad = pairs[number % TURNING], number // TURNING % 2
        task = await parts.schedule.task(pair)
        assert task is not None
        reason, fault = (Reason.CREDENTIAL_REJECTED, Fault.TENANT) if bad else (Reason.OK, Fault.NONE)
        outcome = Outcome(task, Verdict(reason, fault, parts.clock.now_ms()), "github|turning")
        turning = time.perf_counter()
        record = (await parts.recorder.record([outcome]))[pair]
        seen.turned[verdict_of(pair, record, 0).version] = turning


def _turning() -> Sequence[Pair]:
    return [Pair("github", f"turning-{number}") for number in range(TURNING)]


async def _checks(parts: Parts) -> int:
    async with parts.redis.pipeline(transaction=False) as pipe:
        for shard in range(parts.settings.shards):
            pipe.hget(keys.counters(shard), "checks|github|ok")
        return sum(int(count or 0) for count in await pipe.execute())


def _told(seen: Seen, seconds: float, checks: float, busy: float, rss: int) -> list[Figure]:
    def row(what: str, ours: float, unit: str, goal: str = "", *, reached: bool | None = None) -> Figure:
        return Figure("api", what, ours, unit, goal=goal, reached=reached)

    answered = (len(seen.gets) - seen.failed) / seconds
    gets, told = (statistics.quantiles(times, n=100, method="inclusive") for times in (seen.gets, seen.told))
    turning = f"a transition until one of {CLIENTS} clients is told"
    heard = len(seen.told) / (len(seen.turned) * (CLIENTS / 2 + CLIENTS / 2 / TURNING))
    return [
        row("reads answered a second", answered, "/s", f"≥ {GETS} /s", reached=answered >= GETS * 0.99),
        row("checks a second meanwhile", checks, "/s", f"≥ {CHECKS} /s", reached=checks >= CHECKS * 0.97),
        row(f"{turning}, p99", told[98], "s", f"≤ {TOLD:g} s", reached=told[98] <= TOLD),
        row(f"{turning}, median", told[49] * 1000, "ms"),
        row("of the transitions, told", heard * 100, "%", "100 %", reached=heard >= 1),
        row("a read, median", gets[49] * 1000, "ms"),
        row("a read, p99", gets[98] * 1000, "ms"),
        row("the API's CPU", busy * 100, "% of a core"),
        row("the API's memory", rss / 2**20, "MiB"),
    ]


if __name__ == "__main__":
    run(figures)
