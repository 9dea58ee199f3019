"""What is measured, read from Redis: the verdicts of one shard, and the system's own counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from registry import keys
from registry.bootstrap import Parts
from registry.clock import steady
from registry.connection import AWAY, connect
from registry.health import HealthStatus, Reason
from registry.ids import SYSTEM, Pair
from registry.incidents import Incident, open_incidents
from registry.maintenance import MaintenanceBoard, until
from registry.record import absent, decode, seen
from registry.settings import Settings
from registry.wires import Wires
from worker.events.standing import Standing, lost, standings
from worker.flight import limit, look
from worker.lags import recent

QUEUES = ("dispatch", "checks", "publish")
"""Celery's queues."""


@dataclass(frozen=True, slots=True)
class ShardSnapshot:
    """The effective verdicts of a shard's pairs, and its counters (``checks|github|ok`` → 12).

    `maintenance` are the pairs that are in maintenance.
    """

    statuses: tuple[HealthStatus, ...]
    counters: Mapping[str, int]
    maintenance: frozenset[Pair] = frozenset()


@dataclass(frozen=True, slots=True)
class PlatformSnapshot:
    """The system's own state: its counters and last success times (ms), and per connector (pairs, due pairs).

    `in_flight` are batches by connector, `work` what they still take and `work_limit` what they may (seconds of a
    worker), `running` checks, `recent` what `worker.lags` counted in the last minutes, `queues` the messages that
    wait, by queue; empty when the broker did not answer. `paces` are the seconds between two turns of each periodic
    task.
    """

    facts: Mapping[str, int]
    paces: Mapping[str, float]
    recent: Mapping[str, int]
    depth: Mapping[str, tuple[int, int]]
    in_flight: Mapping[str, int]
    work: Mapping[str, float]
    work_limit: float
    queues: Mapping[str, int]
    running: int
    children: int
    incidents: Sequence[Incident]
    webhooks: Sequence[Standing]
    transitions_lost: int
    groups: int
    now_ms: int


async def shard_snapshot(parts: Parts, shard: int) -> ShardSnapshot:
    """Read one shard, in pages."""
    asked = steady()
    parts.clock.calibrate(await parts.redis.time(), asked)
    seen_pairs: dict[Pair, HealthStatus] = {}
    for connector in parts.catalog.list():
        async for page in parts.schedule.pairs(connector, shard):
            seen_pairs.update(await _statuses(parts, shard, page))
    windows, now = await MaintenanceBoard(parts.redis).current(), parts.clock.now_ms()
    announced = frozenset(pair for pair in seen_pairs if until(pair, windows, now)) if windows else frozenset()
    counted, known = _numbers(await parts.redis.hgetall(keys.counters(shard))), set(parts.catalog.list())
    counters = {name: number for name, number in counted.items() if name.split("|", 2)[1] in known}
    return ShardSnapshot(tuple(seen_pairs.values()), counters, announced)


async def whole_snapshot(parts: Parts) -> ShardSnapshot:
    """All shards as one: what ``/metrics`` shows, where no `shard` label tells them apart."""
    shards = [await shard_snapshot(parts, shard) for shard in range(parts.settings.shards)]
    counters: Counter[str] = Counter()
    for shard in shards:
        counters.update(shard.counters)
    announced = frozenset(pair for shard in shards for pair in shard.maintenance)
    return ShardSnapshot(tuple(status for shard in shards for status in shard.statuses), counters, announced)


async def platform_snapshot(parts: Parts) -> PlatformSnapshot:
    """Read the system's own state."""
    names, now = parts.catalog.list(), parts.clock.now_ms()
    async with parts.redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(keys.PLATFORM)
        pipe.zrange(keys.CHILDREN, str(now - 20_000), "+inf", byscore=True)
        pipe.hgetall(keys.RUNNING)
        facts, children, running = await pipe.execute()
    flight = await look(parts)
    return PlatformSnapshot(
        facts=_numbers(facts),
        paces=_paces(parts.settings),
        recent=await recent(parts.redis, now),
        depth=await parts.schedule.depth(names),
        in_flight=flight.batches,
        work=flight.work(),
        work_limit=limit(parts, flight),
        queues=await _queues(parts),
        running=sum(int(running.get(child, 0)) for child in children),
        children=len(children),
        incidents=await open_incidents(parts.redis),
        webhooks=await standings(parts),
        transitions_lost=await lost(parts),
        groups=parts.settings.metrics_groups,
        now_ms=now,
    )


def _paces(settings: Settings) -> dict[str, float]:
    """Only what is to run: a task that was switched off does not stall."""
    asked = (
        ("dispatch", settings.dispatch_every, True),
        ("publish", settings.publish_every, settings.pushgateway_url),
        ("reconcile", settings.reconcile_every, True),
        ("detect", settings.incidents_every, True),
        ("status_pages", settings.status_pages_every, settings.status_pages_every),
        ("tell", settings.webhooks_every, settings.webhooks_file),
        ("pulse", settings.heartbeat_every, settings.heartbeat_url),
        ("cloud_monitoring", settings.cloud_monitoring_every, settings.cloud_monitoring_project),
    )
    return {task: every for task, every, on in asked if on}


async def _queues(parts: Parts) -> dict[str, int]:
    broker = connect(parts.settings.broker_redis_url, parts.settings.redis_timeout)
    try:
        return {queue: int(await broker.llen(queue)) for queue in QUEUES}
    except AWAY:
        return {}
    finally:
        await broker.aclose()


async def _statuses(parts: Parts, shard: int, pairs: list[Pair]) -> dict[Pair, HealthStatus]:
    # Of the service checks only the vendors' own are shown: which addresses tenants use is not everybody's to know.
    pairs = [pair for pair in pairs if not pair.is_service or pair.tenant == SYSTEM]
    if not pairs:
        return {}
    wires = cast("Wires", await parts.redis.mget([keys.verdict(shard, pair) for pair in pairs]))
    now = parts.clock.now_ms()
    return {
        pair: seen(pair, decode(wire), now) if wire else absent(pair, Reason.NOT_CHECKED, now)
        for pair, wire in zip(pairs, wires, strict=True)
    }


def _numbers(wire: object) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in cast("Mapping[bytes, bytes]", wire).items()}
