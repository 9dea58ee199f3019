"""How long a cycle of the publisher takes: 10,000 and 100,000 pairs to a real Pushgateway, and what it costs whom.

The Pushgateway is as it comes, with its consistency check, but keeps nothing on disk. A cycle ends when every group was
answered; how long the Pushgateway's own `/metrics` takes to show it is told beside. Publishing is O(pairs) by nature:
every series is written anew in each cycle. `METRICS_TENANTS=off` leaves the aggregates, which are O(connectors).
"""

from __future__ import annotations

import asyncio
import re
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.error import URLError

from benchmarks import synthetic
from benchmarks.figures import Figure, run
from benchmarks.servers import program
from benchmarks.settings import Settings
from registry import keys
from registry.bootstrap import Parts, assemble
from worker.housekeeping import publish

GOAL = 5.0
SIZES = (10_000, 100_000)
CYCLES = 5


@dataclass(frozen=True, slots=True)
class Cycle:
    """Seconds of one cycle: until it was done, until `/metrics` showed it, and the CPU of each party."""

    done: float
    shown: float
    ours: float
    redis: float
    gateway: float


@contextmanager
def pushgateway() -> Iterator[tuple[str, int]]:
    """A Pushgateway of the benchmark's own: its URL and its process id."""
    binary = program("prometheus-pushgateway", package="prometheus-pushgateway")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [binary, f"--web.listen-address={address}", "--persistence.file="], stdout=log, stderr=log
        )
    try:
        while not _ready(f"http://{address}"):
            assert process.poll() is None
            time.sleep(0.05)
        yield f"http://{address}", process.pid
    finally:
        process.kill()
        process.wait()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5):  # noqa: S310 - our own loopback server
            return True
    except (URLError, OSError):
        return False


def figures(*, short: bool) -> list[Figure]:
    """Of each size the median of five cycles, the CPU of each party, and the memory."""
    return [figure for many in SIZES[: 1 if short else None] for figure in asyncio.run(_measured(many))]


async def _measured(many: int) -> list[Figure]:
    with synthetic.redis_server() as (url, redis), pushgateway() as (gateway, gateway_pid):
        settings = {"redis_url": url, "config_store": "memory", "audit": "memory", "pushgateway_url": gateway}
        # with an hour's interval no verdict gets old on the way; a cycle that is slow is to be measured, not given up
        more = {"check_interval": 3_600, "pushgateway_timeout": 120, "publish_every": 300}
        parts = assemble(Settings.model_validate(settings | more))
        await synthetic.enter(parts, many)
        await synthetic.check(parts, many)
        before = synthetic.resident_bytes()
        synthetic.forget_peak()
        cycles = [await _cycle(parts, gateway, many, (None, redis.pid, gateway_pid)) for _ in range(CYCLES)]
        more_memory = synthetic.resident_bytes(peak=True) - before
        gateway_memory = synthetic.resident_bytes(gateway_pid, peak=True)
        await parts.aclose()
    what, wall = f"a cycle of {many:,} pairs", _median(cycles, "done")
    asked = many == SIZES[-1]
    return [
        Figure("publish", what, wall, "s", goal=f"≤ {GOAL:g} s" * asked, reached=wall <= GOAL if asked else None),
        Figure("publish", f"{what}, until the Pushgateway's `/metrics` has shown it", _median(cycles, "shown"), "s"),
        Figure("publish", f"{what}, the publisher's CPU", _median(cycles, "ours"), "s"),
        Figure("publish", f"{what}, Redis' CPU", _median(cycles, "redis"), "s"),
        Figure("publish", f"{what}, the Pushgateway's CPU", _median(cycles, "gateway"), "s"),
        Figure("publish", f"{what}, the publisher's memory more at its most", more_memory / 2**20, "MiB"),
        Figure("publish", f"{what}, the Pushgateway's memory at its most", gateway_memory / 2**20, "MiB"),
    ]


async def _cycle(parts: Parts, gateway: str, many: int, pids: tuple[int | None, ...]) -> Cycle:
    await parts.redis.hdel(keys.PLATFORM, "publish_ms")
    began, cpu = time.perf_counter(), [synthetic.cpu_seconds(pid) for pid in pids]
    pushed = time.time()
    await publish(parts, "benchmark:1")
    done, spent = time.perf_counter() - began, [synthetic.cpu_seconds(pid) for pid in pids]
    assert await parts.redis.hexists(keys.PLATFORM, "publish_ms"), "every group was taken"
    while not _shows(gateway, many, pushed):
        assert time.perf_counter() < began + 120
    shown = time.perf_counter() - began
    return Cycle(done, shown, *(after - before for after, before in zip(spent, cpu, strict=True)))


def _shows(gateway: str, many: int, since: float) -> bool:
    """Are all groups of after `since`, and is there a series of every pair, usable as it is?"""
    with urllib.request.urlopen(f"{gateway}/metrics", timeout=60) as answer:  # noqa: S310 - our own loopback server
        page = answer.read()
    times = [float(value) for value in re.findall(rb"^push_time_seconds{[^}]*} (\S+)", page, re.MULTILINE)]
    usable = len(re.findall(rb'^registry_connector_health{.*tenant_id="acme-customer-\d+"} 1$', page, re.MULTILINE))
    return bool(times) and min(times) >= since and usable == many


def _median(cycles: list[Cycle], part: str) -> float:
    return statistics.median(float(getattr(cycle, part)) for cycle in cycles)


if __name__ == "__main__":
    run(figures)
