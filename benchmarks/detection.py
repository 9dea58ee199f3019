"""How soon consumers know: a vendor that goes down, a configuration that is mended, a process that is killed.

The real system (beat, workers, Redis, SQLite, demo vendors), each a process of its own, with checks every 10 s. What is
timed is what a consumer reads: every pair is read again and again, and its time is when it first reads otherwise.

Each of these is done once: a p99 is that of 60 or 300 pairs, each at its own place in the interval when it happens,
and what a kill costs is the worst of 300. A worker for checks is killed while vendors are slow, so it holds claims.

What a steady state costs is counted: calls by the vendors, reads by SQLite itself, as statements on the table of
configurations, while this process checks every pair as a worker does.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import statistics
from collections import Counter
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import structlog

from benchmarks import synthetic
from benchmarks.figures import Figure, run
from benchmarks.stack import SLACK, Stack, stack
from registry import keys
from registry.clock import steady
from registry.ids import Pair
from worker.demo.tenants import CONNECTORS
from worker.monitor import Monitor

INTERVAL, CONFIRM, LEASE = 10.0, 5.0, 20.0
PACE = {
    "check_interval": str(INTERVAL),
    "confirm_delay": str(CONFIRM),
    "claim_lease": str(LEASE),
    "fresh_grace": "10",
    "reconcile_every": "5",
}
ALLOWED = 2.0
"""Seconds that the goals allow beyond the waits that are settings."""


def figures(*, short: bool) -> list[Figure]:
    """Detection and repair, failover, and what a steady state costs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return asyncio.run(_figures(tenants=20 if short else 60, short=short))


async def _figures(*, tenants: int, short: bool) -> list[Figure]:
    async with stack(tenants, copies=2, **PACE) as here:
        found = [await _calls(here, seconds=10 if short else 40), await _store_reads(here)]
        found += [await _detection(here, "503s", "maintenance"), await _repair(here, tenants)]
        found += [await _failover(here, name) for name in ("beat", "worker-dispatch")]
        found += [await _failover_of_claims(here)]
        here.kill(SLACK)
        return [*found, await _times(here, "one vendor refuses", ("slack",))]


async def _calls(here: Stack, seconds: float) -> Figure:
    """Vendor calls per recorded check of the connector with most, by the vendors' and by our own count."""
    calls, checks = await here.requests(), await _checks(here)
    await asyncio.sleep(seconds)
    calls, checks = await here.requests() - calls, await _checks(here) - checks
    each = {name: calls[name] / checks[name] for name in CONNECTORS}
    most, mean = max(each, key=lambda name: each[name]), calls.total() / checks.total()
    what = f"vendor calls per check, of the connector with most ({most}; the mean of all: {mean:.2f})"
    return Figure("cost", what, each[most], "", goal="≤ 2", reached=each[most] <= 2)


async def _checks(here: Stack) -> Counter[str]:
    """How many checks of each connector were recorded."""
    found: Counter[str] = Counter()
    for shard in range(here.parts.settings.shards):
        rows = cast("dict[bytes, bytes]", await here.parts.redis.hgetall(keys.counters(shard)))
        for name, count in rows.items():
            if name.startswith(b"checks|"):
                found[name.decode().split("|")[1]] += int(count)
    return found


async def _store_reads(here: Stack) -> Figure:
    """What SQLite is asked for configurations while each pair is checked, after it was checked once before."""
    asked: list[str] = []

    class Traced(sqlite3.Connection):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self.set_trace_callback(asked.append)

    connect = partial(sqlite3.connect, factory=Traced)
    patient = here.parts.settings.model_copy(update={"batch_patience": 120.0})  # nothing is handed back unchecked
    async with synthetic.assembled(patient) as parts:
        with patch("sqlite3.connect", connect):  # the store opens its file at its first use
            await parts.store.get_config(Pair(CONNECTORS[0], here.tenants[0]))
        monitor, before = Monitor(parts), 0
        assert _of_configurations(asked), "what is read is seen"
        for _ in range(2):
            before = _of_configurations(asked)
            for name in CONNECTORS:
                await monitor.check_batch(await synthetic.batch(parts, [Pair(name, each) for each in here.tenants]))
            await monitor.drain()
        reads, checks = _of_configurations(asked) - before, len(here.tenants) * len(CONNECTORS)
    what = f"configuration-store reads per steady-state check, of {checks} checks"
    return Figure("cost", what, reads / checks, "", goal="0", reached=reads == 0)


def _of_configurations(statements: Iterable[str]) -> int:
    return sum(" configs" in statement for statement in statements)


async def _detection(here: Stack, what: str, fault: str) -> Figure:
    await here.play(fault)
    figure = await _times(here, f"the vendors answer {what}", CONNECTORS)
    await here.play("healthy")
    await here.until(lambda page: all(status.healthy for status in page.values()))
    return figure


async def _times(here: Stack, what: str, vendors: Collection[str]) -> Figure:
    """From now until a consumer is routed away, the 99th percentile over all pairs of these vendors."""
    began, times = steady(), dict[Pair, float]()
    async with asyncio.timeout(120):
        while len(times) < len(here.tenants) * len(vendors):
            for pair, status in (await here.page()).items():
                if pair.connector in vendors and not status.healthy:
                    times.setdefault(pair, steady() - began)
            await asyncio.sleep(0.02)
    return _figure("detection", what, list(times.values()), INTERVAL + CONFIRM + ALLOWED)


async def _repair(here: Stack, many: int) -> Figure:
    """From the call of `set_config` until its pair reads healthy, one pair after another."""
    await here.play("revoked", connector="slack")
    await here.until(lambda page: not any(s.healthy for pair, s in page.items() if pair.connector == "slack"))
    times = []
    for tenant in here.tenants[:many]:
        pair = Pair("slack", tenant)
        await here.play("healthy", tenant, "slack")
        config = {"auth": {"type": "bearer", "token": f"xoxb-demo-{tenant}"}}
        began = steady()
        await here.parts.configurations.set(pair, config, actor="benchmark")
        while not (await here.parts.cache.status(pair)).healthy:  # noqa: ASYNC110 - other processes do it
            await asyncio.sleep(0.005)
        times.append(steady() - began)
    return _figure("repair", "configuration fixed → healthy", times, ALLOWED)


async def _failover(here: Stack, name: str) -> Figure:
    """The latest that any pair is overdue after one of two processes was killed."""
    here.kill(f"{name}-0")
    latest = await _latest(here)
    here.application(name, 0)
    return _late(f"one of two {name} killed", latest.values())


async def _failover_of_claims(here: Stack) -> Figure:
    """The same of a worker for checks, killed in the middle of checks: only their lease gives its pairs back."""
    await here.play("slow")
    async with asyncio.timeout(120):
        while not all(int(n) for n in (await here.parts.redis.hgetall(keys.RUNNING)).values()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    here.kill("worker-checks-0")
    await here.play("healthy")
    latest = await _latest(here)
    here.application("worker-checks", 0)
    held = sum(late > LEASE / 2 for late in latest.values())
    return _late(f"one of two worker-checks killed, with the claims of {held} pairs", latest.values())


async def _latest(here: Stack) -> dict[Pair, float]:
    """Seconds by which each pair is overdue at most, as a consumer sees it, until each was checked again."""
    before, latest = await here.page(), dict[Pair, float]()
    waiting = set(before)
    async with asyncio.timeout(120):
        while waiting:
            page = await here.page()
            for pair, status in page.items():
                late = 0.0 if status.age is None else status.age - INTERVAL
                latest[pair] = max(late, latest.get(pair, 0.0))
            waiting -= {pair for pair in waiting if page[pair].version != before[pair].version}
            await asyncio.sleep(0.1)
    return latest


def _late(what: str, latest: Collection[float]) -> Figure:
    worst, bound = max(latest), max(INTERVAL, LEASE) + 5
    what = f"{what}: the latest pair is overdue by"
    return Figure("failover", what, worst, "s", goal=f"≤ {bound:g} s", reached=worst <= bound)


def _figure(row: str, what: str, times: list[float], bound: float) -> Figure:
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    what = f"{what}: p99 of {len(times)} pairs (median {statistics.median(times):.2f} s)"
    return Figure(row, what, p99, "s", goal=f"≤ {bound:g} s", reached=p99 <= bound)


if __name__ == "__main__":
    run(figures)
