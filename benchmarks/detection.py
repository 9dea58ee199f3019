"""How soon consumers know: a vendor that goes down, a configuration that is mended, a process that is killed.

The real system (beat, workers, Redis, SQLite, demo vendors), each a process of its own, with checks every 10 s. What is
timed is what a consumer reads: every pair is read again and again, and its time is when it first reads otherwise.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Collection
from typing import cast

from benchmarks.figures import Figure, run
from benchmarks.stack import SLACK, Stack, stack
from registry import keys
from registry.clock import steady
from registry.ids import Pair
from worker.demo.tenants import CONNECTORS

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
    return asyncio.run(_figures(tenants=20 if short else 60, short=short))


async def _figures(*, tenants: int, short: bool) -> list[Figure]:
    async with stack(tenants, copies=2, **PACE) as here:
        found = [await _calls(here, seconds=10 if short else 60)]
        found += [await _detection(here, "503s", "maintenance"), await _repair(here, tenants)]
        found += [await _failover(here, name) for name in ("worker-checks", "beat", "worker-dispatch")]
        here.kill(SLACK)
        return [*found, await _times(here, "one vendor refuses", ("slack",))]


async def _calls(here: Stack, seconds: float) -> Figure:
    """Vendor calls per recorded check, by the vendors' and by our own count."""
    calls, checks = await here.requests(), await _checks(here)
    await asyncio.sleep(seconds)
    calls, checks = await here.requests() - calls, await _checks(here) - checks
    each = calls / checks
    return Figure("cost", "vendor calls per check, the mean of all connectors", each, "", goal="≤ 2", reached=each <= 2)


async def _checks(here: Stack) -> int:
    counters = [await here.parts.redis.hgetall(keys.counters(n)) for n in range(here.parts.settings.shards)]
    rows = [row for each in counters for row in cast("dict[bytes, bytes]", each).items()]
    return sum(int(count) for name, count in rows if name.startswith(b"checks|"))


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
    worst, ends, bound = 0.0, steady() + max(INTERVAL, LEASE) + 10, max(INTERVAL, LEASE) + 5
    while steady() < ends:
        worst = max(worst, await _overdue(here))
        await asyncio.sleep(0.1)
    here.application(name, 0)
    what = f"one of two {name} killed: the latest pair is overdue by"
    return Figure("failover", what, worst, "s", goal=f"≤ {bound:g} s", reached=worst <= bound)


async def _overdue(here: Stack) -> float:
    """Seconds by which the check of the latest pair is overdue, as a consumer sees it."""
    ages = [status.age for status in (await here.page()).values() if status.age is not None]
    return max(0.0, max(ages) - INTERVAL)


def _figure(row: str, what: str, times: list[float], bound: float) -> Figure:
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    what = f"{what}: p99 of {len(times)} pairs (median {statistics.median(times):.2f} s)"
    return Figure(row, what, p99, "s", goal=f"≤ {bound:g} s", reached=p99 <= bound)


if __name__ == "__main__":
    run(figures)
