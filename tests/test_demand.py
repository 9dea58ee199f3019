"""Checks on demand: one at a time for each pair, however long it takes, and none that its budget did not admit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from redis.asyncio.lock import Lock
from redis.exceptions import ConnectionError  # noqa: A004 - redis-py calls it that

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.check import CheckSession
from registry.clock import steady
from registry.facade import ConnectorRegistry
from registry.health import Reason
from registry.ids import Pair
from registry.settings import Settings
from tests.plugin import Plugin, plugin_config

ACME = Pair("lingering", "acme")


class Lingering(Plugin):
    """Counts its checks, and does not end when it is closed."""

    manifest = Plugin.manifest.model_copy(update={"name": "lingering"})
    begun: ClassVar[int] = 0

    async def check(self, session: CheckSession) -> None:
        Lingering.begun += 1

    async def aclose(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture
async def parts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Parts]:
    monkeypatch.setattr(Lingering, "begun", 0)
    monkeypatch.setattr("registry.check.CLOSE_TIMEOUT", 3.0)
    assembled = assemble(
        settings.model_copy(update={"check_timeout": 0.05, "tenant_budgets": {"limited": 1, "trying": 1}})
    )
    assembled.catalog.register("lingering", Lingering)
    await assembled.redis.set(keys.BUDGETS_SINCE, 1)
    for tenant in ("acme", "limited"):
        await assembled.configurations.set(Pair("lingering", tenant), plugin_config(), actor="test")
    yield assembled
    await assembled.aclose()


async def test_a_check_that_takes_all_the_time_it_may_is_not_made_twice(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.demand.HOLD", 0.5, raising=False)
    registry = ConnectorRegistry(parts)
    demands = (registry.health_check("lingering", tenant_id="acme", max_age=0) for _ in range(3))
    statuses = await asyncio.gather(*demands)
    assert Lingering.begun == 1
    assert {status.reason for status in statuses} == {Reason.OK}
    assert len({status.version for status in statuses}) == 1


async def test_a_redis_that_goes_away_behind_a_check_takes_nobodys_verdict(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: Lock) -> None:
        raise ConnectionError

    monkeypatch.setattr(Lock, "release", away)
    status = await ConnectorRegistry(parts).health_check("lingering", tenant_id="acme", max_age=0)
    assert status.reason is Reason.OK


async def test_where_redis_takes_no_writes_what_is_known_is_the_answer(parts: Parts) -> None:
    registry = ConnectorRegistry(parts)
    before = await registry.health_check("lingering", tenant_id="acme", max_age=0)
    await parts.redis.config_set("maxmemory", 1)
    try:
        status = await registry.health_check("lingering", tenant_id="acme", max_age=0)
    finally:
        await parts.redis.config_set("maxmemory", 0)
    assert (status.reason, status.version, Lingering.begun) == (Reason.OK, before.version, 1)


async def test_a_verdict_that_cannot_be_written_is_told_to_who_asked(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(parts.recorder, "record", away)
    status = await ConnectorRegistry(parts).health_check("lingering", tenant_id="acme", max_age=0)
    assert (status.reason, Lingering.begun) == (Reason.OK, 1)


async def test_who_died_in_a_check_keeps_nobody_from_making_it(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.check.CLOSE_TIMEOUT", 0.05)
    dead = parts.redis.lock(keys.lock(parts.schedule.shard(ACME), ACME), timeout=0.3)
    assert await dead.acquire()
    status = await ConnectorRegistry(parts).health_check("lingering", tenant_id="acme", max_age=0)
    assert (status.reason, Lingering.begun) == (Reason.OK, 1)


async def test_who_stood_still_after_its_budget_admitted_it_asks_again(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.demand.steady", lambda: steady() + 3600, raising=False)
    registry = ConnectorRegistry(parts)
    status = await registry.health_check("lingering", tenant_id="limited", max_age=0)
    assert status.put_off_until is not None, "the one check an hour was taken by the place that is over"
    tried = await registry.dry_run("lingering", plugin_config(), tenant_id="trying")
    assert tried.put_off_until is not None
    assert Lingering.begun == 0
