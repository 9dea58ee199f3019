"""The operator's budgets: never exceeded, over all processes, and what a pair without any left is told."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.budget import Budget
from registry.clock import steady
from registry.connector import ConnectorConfig
from registry.facade import ConnectorRegistry
from registry.health import Reason, Status
from registry.ids import SYSTEM, Pair
from registry.schedule import Scheduled, Task
from registry.settings import Settings
from tests.plugin import Plugin, plugin_config
from worker.batch import Batch
from worker.demo.tenants import demo_tenants
from worker.demo.vendors import DemoVendors
from worker.dispatch import dispatch
from worker.monitor import Monitor

ACME = Pair("plugin", "acme")
CONFIG = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://T"}})
QUICK = {"redis_timeout": 1.0, "batch_patience": 0.2, "check_timeout": 0.3}
SLACK = 1.8
"""Seconds between admission and call with `QUICK`: they count beside every window."""


class Budgeted(Protocol):
    """Assembles a process with budgets; they have been counted for longer than any window, unless told otherwise."""

    async def __call__(self, *, counted_for_long: bool = True, **changed: object) -> Parts: ...


@pytest.fixture
async def budgeted(settings: Settings) -> AsyncIterator[Budgeted]:
    async with AsyncExitStack() as stack:

        async def start(*, counted_for_long: bool = True, **changed: object) -> Parts:
            parts = assemble(settings.model_copy(update=changed))
            stack.push_async_callback(parts.aclose)
            parts.catalog.register("plugin", Plugin)
            if counted_for_long:
                await parts.redis.set(keys.BUDGETS_SINCE, 1)
            return parts

        yield start


def task(pair: Pair = ACME, config: ConnectorConfig = CONFIG) -> Task:
    return Task(Scheduled(pair, 1, config), None, 1)


async def enter(parts: Parts, *tenants: str, **more: object) -> None:
    for tenant in tenants:
        await parts.configurations.set(Pair("plugin", tenant), {**plugin_config(), **more}, actor="test")


async def tick(parts: Parts, *monitors: Monitor) -> None:
    """Dispatch what is due, and let these monitors share the batches."""
    sent: list[Batch] = []
    await dispatch(parts, lambda batch: sent.append(Batch.read(batch.message())))
    await asyncio.gather(*(monitors[n % len(monitors)].check_batch(batch) for n, batch in enumerate(sent)))


def most_in_any(window: float, moments: Iterable[float]) -> int:
    """The largest number of `moments` in any half-open window of so many seconds."""
    times = sorted(moments)
    return max(sum(start <= at < start + window for at in times) for start in times)


@given(st.integers(1, 10**6), st.integers(1_000, 10**8))
def test_one_more_than_the_budget_takes_a_whole_window(checks: int, window: int) -> None:
    budget = Budget("b", checks, window)
    assert (checks + 1 - budget.saved) * budget.spacing >= window
    assert budget.tolerance == (budget.saved - 1) * budget.spacing


@given(st.integers(1, 10**6), st.integers(1_000, 10**8), st.integers(1, 10**6))
def test_at_their_share_all_pairs_fit_into_the_budget(checks: int, window: int, sharing: int) -> None:
    share = Budget("b", checks, window).share(sharing)
    assert share * checks >= sharing * window
    assert Budget("b", checks, window).share(sharing + 1) >= share


async def test_the_demo_vendors_never_count_more_than_the_budgets(budgeted: Budgeted) -> None:
    """Three processes, far more due than allowed, checks on demand in between, a window of two seconds."""
    window, by_vendor, by_tenant = 2.0, {"github": 16, "slack": 24}, {"*": 16, "acme-02": 8}
    async with DemoVendors(slow=0.01) as vendors:
        changed: dict[str, object] = {**QUICK, "check_interval": 0.2, "confirm_delay": 0.1, "backoff_max": 0.5}
        changed |= {"vendor_budgets": by_vendor, "tenant_budgets": by_tenant, "budget_window": window}
        changed |= {"vendor_urls": {name: f"{vendors.url}/{name}" for name in by_vendor}}
        processes = [await budgeted(counted_for_long=n > 0, **changed) for n in range(3)]
        for tenant, configs in demo_tenants(5, vendors.url)["tenants"].items():
            for name in by_vendor:
                await processes[0].configurations.set(Pair(name, tenant), configs[name], actor="test")
        await processes[0].reconciler.run()  # brings the service checks
        monitors, registries = [Monitor(parts) for parts in processes], [ConnectorRegistry(p) for p in processes]
        vendors.script.set("acme-03", "slack", "error_503")
        while len(vendors.journal) < 80:
            demands = [
                registry.health_check(name, tenant_id="acme-02", max_age=0)
                for registry in registries
                for name in by_vendor
            ]
            await asyncio.gather(*(tick(parts, *monitors) for parts in processes), *demands)
        for monitor in monitors:
            await monitor.drain()
        calls = defaultdict[tuple[str, str], list[float]](list)
        for at, vendor, caller in vendors.journal:
            calls["vendor", vendor].append(at)
            if caller:
                calls["tenant", caller].append(at)
        for (kind, name), moments in calls.items():
            budget = by_vendor[name] if kind == "vendor" else by_tenant.get(name, by_tenant["*"])
            assert most_in_any(window, moments) <= budget, (kind, name)
        assert {name for kind, name in calls if kind == "tenant"} == {f"acme-0{n}" for n in range(1, 6)}
        assert int(await processes[0].redis.hget(keys.PLATFORM, "put_off") or 0) > 0


@pytest.mark.parametrize("checks", [1, 7, 60])
async def test_no_window_admits_more_whoever_asks(budgeted: Budgeted, checks: int) -> None:
    changed = {**QUICK, "tenant_budgets": {"acme": checks}, "budget_window": 0.2}
    askers = [await budgeted(counted_for_long=False, **changed) for _ in range(3)]
    admitted: list[tuple[float, float]] = []

    async def ask(parts: Parts, pair: Pair) -> None:
        while len(admitted) <= checks:
            asked = steady()
            if isinstance(await parts.budgets.admit_now(task(pair)), Task):
                admitted.append((asked, steady()))

    await asyncio.gather(*(ask(parts, Pair(name, "acme")) for parts in askers for name in ("plugin", "slack")))
    admitted.sort()
    for (asked, _), (_, answered) in zip(admitted, admitted[checks:], strict=False):
        assert answered - asked >= 0.2 + SLACK - 0.002  # Redis' time in milliseconds


async def test_what_redis_may_have_lost_counts_as_used_up(budgeted: Budgeted) -> None:
    parts = await budgeted(vendor_budgets={"plugin": 60})
    assert isinstance(await parts.budgets.admit_now(task()), Task)
    await parts.redis.flushall()
    assert isinstance(await parts.budgets.admit_now(task()), int)


async def test_a_pair_takes_from_all_its_budgets_or_from_none(budgeted: Budgeted) -> None:
    parts = await budgeted(vendor_budgets={"plugin": 40}, tenant_budgets={"acme": 1})
    assert isinstance(await parts.budgets.admit_now(task()), Task)
    assert isinstance(await parts.budgets.admit_now(task()), int), "acme has had its own"
    assert isinstance(await parts.budgets.admit_now(task(Pair("plugin", "globex"))), Task), "the vendor has one saved"
    assert isinstance(await parts.budgets.admit_now(task(Pair("plugin", "globex"))), int), "now nothing is saved"


async def test_a_configuration_can_only_lower_the_budget(budgeted: Budgeted) -> None:
    parts = await budgeted(tenant_budgets={"*": 1})
    generous = task(config=CONFIG.model_copy(update={"budget": 1_000}))
    assert isinstance(await parts.budgets.admit_now(generous), Task)
    assert isinstance(await parts.budgets.admit_now(generous), int)
    modest = await budgeted()
    careful = task(Pair("plugin", "globex"), CONFIG.model_copy(update={"budget": 1}))
    assert isinstance(await modest.budgets.admit_now(careful), Task)
    assert isinstance(await modest.budgets.admit_now(careful), int)


async def test_a_service_check_takes_from_its_vendor_and_from_no_tenant(budgeted: Budgeted) -> None:
    parts = await budgeted(vendor_budgets={"plugin": 10}, tenant_budgets={"*": 10})
    service = Scheduled(Pair("plugin", SYSTEM), 1, None, "https://plugin.example.com")
    assert [budget.key for budget in parts.budgets.of(service)] == [keys.budget("vendor", "plugin")]


async def test_all_budgets_lie_in_one_slot_of_a_cluster(budgeted: Budgeted) -> None:
    parts = await budgeted(vendor_budgets={"plugin": 10}, tenant_budgets={"*": 10})
    scheduled = Scheduled(ACME, 1, CONFIG.model_copy(update={"budget": 5}))
    names = [keys.BUDGETS_SINCE, *(budget.key for budget in parts.budgets.of(scheduled))]
    assert len(names) == 4
    assert {name[name.index("{") : name.index("}")] for name in names} == {"{budget"}


async def test_without_budgets_nothing_is_asked(parts: Parts) -> None:
    assert await parts.budgets.admit([task()]) == [task()]
    assert await parts.budgets.admit_now(task()) == task()
    assert await parts.redis.exists(keys.BUDGETS_SINCE) == 0


async def test_pairs_that_find_the_budget_used_up_are_put_off_one_after_the_other(budgeted: Budgeted) -> None:
    parts = await budgeted(vendor_budgets={"plugin": 120})
    tenants = [f"t{n}" for n in range(20)]
    await enter(parts, *tenants)
    await tick(parts, Monitor(parts))
    statuses = [await parts.cache.status(Pair("plugin", tenant)) for tenant in tenants]
    assert sorted(status.reason for status in statuses) == [Reason.NOT_CHECKED] * 14 + [Reason.OK] * 6
    assert await parts.redis.hget(keys.PLATFORM, "put_off") == b"14"
    waiting = [status.tenant_id or "" for status in statuses if status.reason is Reason.NOT_CHECKED]
    turns = sorted([await _due(parts, tenant) for tenant in waiting])
    spacing = parts.budgets.of(Scheduled(ACME, 1, CONFIG))[0].spacing
    assert {later - sooner for sooner, later in pairwise(turns)} == {spacing}
    assert turns[-1] - parts.clock.now_ms() < 15 * spacing


async def test_verdicts_that_share_a_budget_stay_fresh_until_their_turn(budgeted: Budgeted) -> None:
    parts = await budgeted(vendor_budgets={"plugin": 200})
    await enter(parts, *[f"t{n}" for n in range(100)])
    await tick(parts, Monitor(parts))
    rows = await asyncio.gather(*(parts.cache.status(Pair("plugin", f"t{n}")) for n in range(100)))
    checked = [status for status in rows if status.reason is Reason.OK]
    assert len(checked) == 10
    for status in checked:
        wait = await _due(parts, str(status.tenant_id)) - parts.clock.now_ms()
        assert wait > 1_000_000, "half of what 100 pairs need at 200 an hour, and more"
        assert status.fresh_until_ms is not None
        assert status.fresh_until_ms - parts.clock.now_ms() > wait


async def test_a_check_on_demand_says_that_the_budget_is_used_up_and_until_when(budgeted: Budgeted) -> None:
    parts = await budgeted(tenant_budgets={"acme": 1})
    registry = ConnectorRegistry(parts)
    await enter(parts, "acme")
    made = await registry.health_check("plugin", tenant_id="acme", max_age=0)
    assert (made.reason, made.put_off_until) == (Reason.OK, None)
    refused = await asyncio.gather(*(registry.health_check("plugin", tenant_id="acme", max_age=0) for _ in range(5)))
    for status in refused:
        assert (status.status, status.version) == (Status.HEALTHY, made.version), "what is known is still told"
        assert status.put_off_until_ms is not None
        assert 3_500_000 < status.put_off_until_ms - parts.clock.now_ms() < 3_700_000
        assert status.as_dict()["put_off_until"] == status.put_off_until
    tried = await registry.dry_run("plugin", plugin_config(), tenant_id="acme")
    assert (tried.reason, tried.put_off_until is None) == (Reason.NOT_CHECKED, False)


async def _due(parts: Parts, tenant: str) -> float:
    pair = Pair("plugin", tenant)
    score = await parts.redis.zscore(keys.due(parts.schedule.shard(pair), "plugin"), tenant)
    assert score is not None
    return float(score)


async def test_who_finds_no_place_at_a_host_that_hangs_spends_nothing(budgeted: Budgeted) -> None:
    pace: dict[str, object] = {**QUICK, "check_timeout": 1.0, "confirm_delay": 0.001, "host_concurrency": 2}
    parts = await budgeted(counted_for_long=True, **pace, vendor_budgets={"plugin": 100_000})
    await enter(parts, *[f"t{number}" for number in range(6)], settings={"hang": True})
    monitor, key = Monitor(parts), keys.budget("vendor", "plugin")
    await tick(parts, monitor)
    spent = await parts.redis.hget(key, "spent")
    await tick(parts, monitor)
    assert await parts.redis.hget(keys.PLATFORM, "released") == b"8", "four pairs, twice"
    assert await parts.redis.hget(key, "spent") == spent
    await monitor.drain()
