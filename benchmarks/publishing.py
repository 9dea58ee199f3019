"""How long one cycle of the publisher takes: 100,000 pairs to a real Pushgateway, and what it costs.

Publishing is O(pairs) by nature: every series is written anew in each cycle. `METRICS_TENANTS=false` leaves the
aggregates, which are O(connectors).
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

from benchmarks import synthetic
from benchmarks.figures import Figure, run
from registry import keys
from registry.bootstrap import assemble
from registry.settings import Settings
from worker.housekeeping import publish

GOAL = 5.0
PAIRS = 100_000
CYCLES = 3


@contextmanager
def pushgateway() -> Iterator[tuple[str, int]]:
    """A Pushgateway of the benchmark's own: its URL and its process id."""
    binary = shutil.which("prometheus-pushgateway")
    assert binary, "install prometheus-pushgateway"
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
    """The median of a few cycles, the CPU of each party, and the publisher's memory."""
    return asyncio.run(_measured(PAIRS // 10 if short else PAIRS))


async def _measured(many: int) -> list[Figure]:
    with synthetic.redis_server() as (url, _), pushgateway() as (gateway, gateway_pid):
        settings = {"redis_url": url, "config_store": "memory", "audit": "memory", "pushgateway_url": gateway}
        # with an hour's interval no verdict gets old on the way; a cycle that is slow is to be measured, not given up
        more = {"check_interval": 3_600, "pushgateway_timeout": 120, "publish_every": 300}
        parts = assemble(Settings.model_validate(settings | more))
        await synthetic.enter(parts, many)
        await synthetic.check(parts, many)
        before, cycles = synthetic.resident_bytes(), list[tuple[float, float, float]]()
        for _ in range(CYCLES):
            await parts.redis.hdel(keys.PLATFORM, "publish_ms")
            started = time.perf_counter(), synthetic.cpu_seconds(), synthetic.cpu_seconds(gateway_pid)
            await publish(parts, "benchmark:1")
            ended = time.perf_counter(), synthetic.cpu_seconds(), synthetic.cpu_seconds(gateway_pid)
            assert await parts.redis.hexists(keys.PLATFORM, "publish_ms"), "every group was taken"
            cycles.append((ended[0] - started[0], ended[1] - started[1], ended[2] - started[2]))
        more_memory = synthetic.resident_bytes(peak=True) - before
        gateway_memory = synthetic.resident_bytes(gateway_pid)
        await parts.aclose()
    wall, ours, theirs = (statistics.median(column) for column in zip(*cycles, strict=True))
    what = f"a cycle of {many:,} pairs"
    return [
        Figure("publish", what, wall, "s", goal=f"≤ {GOAL:g} s", reached=wall <= GOAL),
        Figure("publish", f"{what}, the publisher's CPU", ours, "s"),
        Figure("publish", f"{what}, the Pushgateway's CPU", theirs, "s"),
        Figure("publish", f"{what}, the publisher's memory more at its most", more_memory / 2**20, "MiB"),
        Figure("publish", f"{what}, the Pushgateway's memory", gateway_memory / 2**20, "MiB"),
    ]


if __name__ == "__main__":
    run(figures)
