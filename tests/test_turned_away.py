"""Pairs for which there is no room at their host, or in their process, and what ends just when a process does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import cast

import pytest

from registry.bootstrap import Parts, assemble
from registry.health import Reason
from registry.ids import Pair
from registry.schedule import Task
from registry.settings import Settings
from tests.plugin import Plugin, plugin_config
from tests.test_dispatch import fact, key, tick
from worker.batch import Batch
from worker.lags import recent
from worker.monitor import Monitor

Assembled = Callable[..., Parts]


@pytest.fixture
async def assembled(settings: Settings) -> AsyncIterator[Assembled]:
    made: list[Parts] = []

    def make(**changed: object) -> Parts:
        usual = {"batch_patience": 0.3, "check_timeout": 0.6}
        made.append(assemble(settings.model_copy(update=usual | changed)))
        made[-1].catalog.register("plugin", Plugin)
        return made[-1]

    yield make
    for parts in made:
        await parts.aclose()


async def enter(parts: Parts, *tenants: str, **behaviour: str | bool) -> None:
    for tenant in tenants:
        await parts.configurations.set(Pair("plugin", tenant), plugin_config(**behaviour), actor="test")


async def checks(parts: Parts, monitor: Monitor) -> None:
    """Everybody is due, and what is due is checked."""
    for shard in range(parts.settings.shards):
        tenants = cast("list[bytes]", await parts.redis.zrange(key(shard), 0, -1))
        if tenants:
            await parts.redis.zadd(key(shard), dict.fromkeys(tenants, 1))
    for batch in await tick(parts):
        await monitor.check_batch(Batch.read(batch.message()))


async def due_in(parts: Parts, tenant: str) -> float:
    """Seconds until the pair's next turn."""
    due = await parts.redis.zscore(key(parts.schedule.shard(Pair("plugin", tenant))), tenant)
    assert due is not None
    return (due - parts.clock.now_ms()) / 1000


async def test_a_vendor_that_needs_longer_than_a_batch_waits_is_asked_for_everybody(assembled: Assembled) -> None:
    parts = assembled(host_concurrency=4, check_timeout=5.0)
    await enter(parts, *[f"t{n}" for n in range(4)], seconds="0.4")
    monitor, before = Monitor(parts), Plugin.asked
    for _ in range(3):
        await checks(parts, monitor)
        await monitor.drain()
    assert (Plugin.asked - before, await fact(parts, "released")) == (12, 0)


async def test_a_budget_is_asked_for_as_many_pairs_of_a_silent_host_as_it_has_places(
    assembled: Assembled, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = assembled(host_concurrency=3)
    await enter(parts, *[f"t{n}" for n in range(7)], hang=True)
    monitor, asked, admit = Monitor(parts), list[int](), parts.budgets.admit

    async def counted(tasks: Sequence[Task]) -> list[Task]:
        asked.append(len(tasks))
        return await admit(tasks)

    monkeypatch.setattr(parts.budgets, "admit", counted)
    for _ in range(2):
        await checks(parts, monitor)
        await monitor.drain()
    assert asked == [7, 3]
    assert await fact(parts, "released") == 4 + 4
    assert (await recent(parts.redis, parts.clock.now_ms(), 2))["released"] == 4 + 4


async def test_no_more_checks_of_a_connector_run_than_a_process_can_hold(
    assembled: Assembled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.monitor.RUNNING_MOST", 3)
    parts = assembled(batch_size=3)
    await enter(parts, *[f"t{n}" for n in range(9)], hang=True)
    monitor, sent, ran = Monitor(parts), await tick(parts), list[int]()
    for batch in sent:
        await monitor.check_batch(Batch.read(batch.message()))
        ran.append(monitor.running)
    assert len(ran) > 3
    assert max(ran) == 3
    await monitor.drain()


async def test_who_is_turned_away_comes_again_after_half_of_its_own_interval(assembled: Assembled) -> None:
    short, usual = ("short0", "short1"), ("usual0", "usual1")
    parts = assembled(host_concurrency=1, check_interval=600.0, tenant_intervals=dict.fromkeys(short, 20.0))
    await enter(parts, *short, *usual, hang=True)
    monitor = Monitor(parts)
    for _ in range(2):
        await checks(parts, monitor)
    away = {tenant: await due_in(parts, tenant) for tenant in (*short, *usual)}
    await monitor.drain()
    assert [round(away[tenant]) for tenant in short].count(10) >= 1
    assert [round(away[tenant]) for tenant in usual].count(300) >= 1


async def test_what_ends_when_its_process_does_is_written_and_the_rest_is_due_again(
    assembled: Assembled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.monitor.HARVEST_EVERY", 60.0)
    parts = assembled(claim_lease=300.0, check_timeout=30.0)
    soon = [f"soon{n}" for n in range(3)]
    await enter(parts, *soon, seconds="0.5")
    await enter(parts, "late", hang=True)
    hasty = parts.settings.model_copy(update={"check_timeout": 2.0})  # so long a process that ends waits
    monitor = Monitor(replace(parts, settings=hasty))
    await checks(parts, monitor)
    await monitor.drain()
    assert {(await parts.cache.status(Pair("plugin", tenant))).reason for tenant in soon} == {Reason.OK}
    assert [await due_in(parts, tenant) > 1 for tenant in (*soon, "late")] == [True, True, True, False]
