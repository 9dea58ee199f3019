"""How many full checks a second, and at what price: claim → HTTP → verdict → cache → events, by real worker processes.

Beside it, in turns and on the same cores and target: a bare aiohttp loop for each worker child doing the same GETs,
the blackbox exporter (driven from outside, its own CPU counted), and one Celery task a check. CPU is that of the
contender's own processes (ours: of workers and of whoever claims and sends); that of the target is nobody's, and that
of Redis is told apart.

The same is compared at the demo vendors, without goals: one process of Python answers there, no faster than it can.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import psutil
from celery import Celery
from pydantic import SecretStr
from redis import Redis

from benchmarks.figures import Figure, run
from benchmarks.settings import Settings
from benchmarks.synthetic import assembled, redis_server
from benchmarks.targets import PATH, Target, blackbox, demo_vendors, nginx, token
from registry import keys
from registry.bootstrap import Parts
from registry.connector import ConnectorConfig
from registry.ids import Pair
from registry.schedule import Entry
from registry.secrets.encrypted import EncryptedSecrets
from worker.batch import batched

ROOT = Path(__file__).parent.parent
KEY = base64.b64encode(b"a benchmark's key, no secret 321").decode()
CONCURRENCY = 50
"""Requests of one loop at a time, on every side: what `host_concurrency` is by default."""

Result = tuple[float, float]
"""Seconds it took, and seconds of CPU."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    children: int
    pairs: int
    naive: int
    rounds: int


def figures(*, short: bool) -> list[Figure]:
    """The rows ``checks`` and ``naive``."""
    fast = Size(2, 2_000, 100, 3) if short else Size(2, 20_000, 1_000, 5)
    slow = Size(2, 1_000, 100, 3) if short else Size(2, 4_000, 500, 5)
    found: list[Figure] = []
    for running, size in ((nginx, fast), (demo_vendors, slow)):
        with running() as target, redis_server() as (broker, redis):
            for url in (target.plain, target.tls):
                found += _compared(target, url, broker, redis.pid, size)
    return found


def _compared(target: Target, url: str, broker: str, redis: int, size: Size) -> list[Figure]:
    said = target.name + ("TLS" if url == target.tls else "plain")
    with ExitStack() as stack:
        with Redis.from_url(broker) as client:
            client.flushall()
        pool = stack.enter_context(get_context("spawn").Pool(size.children))
        ours = stack.enter_context(_ours(target, url, broker, size))
        probes, exporter = stack.enter_context(blackbox(target))
        naive = stack.enter_context(_naive(target, url, broker, size))
        rounds: dict[str, list[Result]] = {"ours": [], "bare": [], "blackbox": [], "naive": []}
        spent: list[float] = []
        ours()  # the first checks of all; connections are made
        for _ in range(size.rounds):
            before = _cpu(redis)
            rounds["ours"].append(ours())
            spent.append((_cpu(redis) - before) / size.pairs)
            rounds["bare"].append(_bare(pool, url + PATH, target, size.pairs, size.children))
            rounds["blackbox"].append(_probed(pool, probes + url + PATH, exporter.pid, size.pairs // 4, size.children))
            rounds["naive"].append(naive())
    many = {"ours": size.pairs, "bare": size.pairs, "blackbox": size.pairs // 4, "naive": size.naive}
    found = _rows(said, rounds, many, statistics.median(spent) * 1e6)
    return [replace(figure, goal="", reached=None) for figure in found] if target.limits else found


def _rows(said: str, rounds: dict[str, list[Result]], many: dict[str, int], redis_us: float) -> list[Figure]:
    """Ratios are medians of the rounds' own ratios: the sides of a round ran under the same conditions."""
    rate = {side: statistics.median(many[side] / wall for wall, _ in found) for side, found in rounds.items()}
    price = {side: statistics.median(cpu / many[side] for _, cpu in found) * 1e6 for side, found in rounds.items()}

    def faster(other: str) -> float:
        pairs = zip(rounds["ours"], rounds[other], strict=True)
        return statistics.median((many["ours"] / a[0]) / (many[other] / b[0]) for a, b in pairs)

    def cheaper(other: str) -> float:
        pairs = zip(rounds["ours"], rounds[other], strict=True)
        return statistics.median((b[1] / many[other]) / (a[1] / many["ours"]) for a, b in pairs)

    def row(name: str, what: str, other: str, ratio: float, goal: float, *, cpu: bool = False) -> Figure:
        sides = (price["ours"], price[other], "µs of CPU") if cpu else (rate["ours"], rate[other], "/s")
        of = f"≥ {goal:g} × {other}"
        return Figure(name, f"{what}, {said}", sides[0], sides[2], sides[1], other, ratio, of, ratio >= goal)

    return [
        row("checks", "full checks a second", "bare", faster("bare"), 0.6),
        row("checks", "full checks by CPU", "bare", cheaper("bare"), 0.6, cpu=True),
        row("checks", "full checks a second", "blackbox", faster("blackbox"), 4),
        Figure("checks", f"full checks by CPU, {said}", price["ours"], "µs of CPU", price["blackbox"], "blackbox"),
        Figure("checks", f"CPU of Redis a check, {said}", redis_us, "µs"),
        row("naive", "full checks a second", "naive", faster("naive"), 8),
        row("naive", "full checks by CPU", "naive", cheaper("naive"), 8, cpu=True),
    ]


@contextmanager
def _ours(target: Target, url: str, broker: str, size: Size) -> Iterator[Callable[[], Result]]:
    """Real check workers, and what makes one round: all pairs are due, claimed, sent, checked and written."""
    with TemporaryDirectory(prefix="cr-checks-") as directory:
        variables = {
            "redis_url": broker,
            "broker_url": _celery_url(broker),
            "config_store": "memory",
            "audit": "memory",
            "encryption_keys": KEY,
            "egress_allow": "127.0.0.0/8",
            "log_level": "WARNING",
        }
        settings = Settings.model_validate({**variables, "read_timeout": 5.0})
        producer = Celery(broker=settings.broker_url)
        asyncio.run(_enter(settings, url, size.pairs))
        with _worker(directory, "worker.app", "checks", size.children, variables, target) as worker:

            def round_() -> Result:
                return asyncio.run(_round(settings, producer, size.pairs, worker.pid))

            yield round_


async def _enter(settings: Settings, url: str, pairs: int) -> None:
    async with assembled(settings) as parts:
        sealing = EncryptedSecrets([SecretStr(KEY)])
        entries = []
        for number in range(pairs):
            pair = Pair("github", f"acme-{number}")
            sealed = await sealing.seal(pair, "token", SecretStr(token(number)))
            config = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": sealed}, "base_url": url})
            entries.append(Entry(pair, 1, config, reset=True, due_ms=1, announce=False))
        for at in range(0, pairs, 500):
            await parts.schedule.put_many(entries[at : at + 500])


async def _round(settings: Settings, producer: Celery, pairs: int, worker: int) -> Result:
    """Make every pair due, claim and send all of them, and wait until every check is written and counted."""
    async with assembled(settings) as parts:
        for shard in range(settings.shards):
            async for page in parts.schedule.pairs("github", shard):
                await parts.redis.zadd(keys.due(shard, "github"), {pair.tenant: 1 for pair in page})
        wanted = await _counted(parts) + pairs
        before, own, started = _cpu(worker), time.process_time(), time.perf_counter()
        with producer.producer_pool.acquire(block=True) as sender:
            while claims := await parts.schedule.claim({"github": pairs}):
                for batch in batched(claims, settings.batch_size):
                    producer.send_task("check_batch", (batch.message(),), queue="checks", producer=sender)
        sending = time.process_time() - own  # waiting for the end is the benchmark's, and nobody's work
        async with asyncio.timeout(300):
            while await _counted(parts) < wanted:  # noqa: ASYNC110 - other processes do it
                await asyncio.sleep(0.02)
        return time.perf_counter() - started, _cpu(worker) - before + sending


@contextmanager
def _naive(target: Target, url: str, broker: str, size: Size) -> Iterator[Callable[[], Result]]:
    sender = Celery(broker=_celery_url(broker))
    with TemporaryDirectory(prefix="cr-naive-") as directory, Redis.from_url(broker.replace("db=1", "db=0")) as queue:
        variables = {"broker_url": _celery_url(broker)}
        with _worker(directory, "benchmarks.naive", "naive", size.children, variables, target) as worker:

            def round_() -> Result:
                before, started = _cpu(worker.pid), time.perf_counter()
                for number in range(size.naive):
                    sender.send_task("check_one", (url + PATH, token(number)), queue="naive")
                while queue.llen("naive") or queue.hlen("unacked"):
                    time.sleep(0.01)
                return time.perf_counter() - started, _cpu(worker.pid) - before

            round_()
            yield round_


def _bare(pool: Pool, url: str, target: Target, many: int, loops: int) -> Result:
    return _in_processes(pool, _gets, [(url, str(target.certificate), many // loops) for _ in range(loops)])


def _gets(url: str, certificate: str, many: int) -> Result:
    """A bare loop: the same GETs, and nothing else."""

    async def loop() -> Result:
        context = ssl.create_default_context(cafile=certificate)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=context)) as session:

            async def get(number: int) -> None:
                async with session.get(url, headers={"Authorization": f"Bearer {token(number)}"}) as answer:
                    await answer.read()

            await _driven(get, CONCURRENCY)
            before, started = time.process_time(), time.perf_counter()
            await _driven(get, many)
            return time.perf_counter() - started, time.process_time() - before

    return asyncio.run(loop())


def _probed(pool: Pool, url: str, exporter: int, many: int, loops: int) -> Result:
    """Probes of the exporter, as many at a time as there are requests of ours; whoever asks for them is not counted."""
    before = _cpu(exporter)
    wall, _ = _in_processes(pool, _asked, [(url, many // loops) for _ in range(loops)])
    return wall, _cpu(exporter) - before


def _asked(url: str, many: int) -> Result:
    async def loop() -> Result:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def probe(_: int) -> None:
                async with session.get(url) as answer:
                    assert b"probe_success 1" in await answer.read()

            started = time.perf_counter()
            await _driven(probe, many)
            return time.perf_counter() - started, 0.0

    return asyncio.run(loop())


async def _driven(act: Callable[[int], Awaitable[None]], many: int) -> None:
    numbers = iter(range(many))

    async def one() -> None:
        for number in numbers:
            await act(number)

    await asyncio.gather(*[one() for _ in range(CONCURRENCY)])


def _in_processes(pool: Pool, work: Callable[..., Result], arguments: list[tuple[object, ...]]) -> Result:
    """Run it in processes beside each other: the longest time, and all of their CPU."""
    found = pool.starmap(work, arguments, chunksize=1)
    return max(wall for wall, _ in found), sum(cpu for _, cpu in found)


@contextmanager
def _worker(
    directory: str, app: str, queue: str, children: int, variables: dict[str, str], target: Target
) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker as the Procfile starts it."""
    options = f"--queues {queue} --concurrency {children} --hostname {queue}@bench --loglevel WARNING"
    quiet = "--without-gossip --without-mingle --without-heartbeat"
    command = [sys.executable, "-m", "celery", "--app", app, "worker", *options.split(), *quiet.split()]
    told = {name.upper(): value for name, value in variables.items()}
    environment = os.environ | told | {"SSL_CERT_FILE": str(target.certificate), "PYTHONPATH": str(ROOT)}
    with (Path(directory) / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _cpu(pid: int) -> float:
    """Seconds of CPU of a process and its children."""
    parent = psutil.Process(pid)
    times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


async def _counted(parts: Parts) -> int:
    async with parts.redis.pipeline(transaction=False) as pipe:
        for shard in range(parts.settings.shards):
            pipe.hget(keys.counters(shard), "checks|github|ok")
        return sum(int(count or 0) for count in await pipe.execute())


def _celery_url(url: str) -> str:
    """A Unix socket as Celery spells it; the broker's database is another than the cache's."""
    return url.replace("unix://", "redis+socket://").replace("?db=1", "?virtual_host=0")


if __name__ == "__main__":
    run(figures)
