import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from registry import keys
from registry.bootstrap import Parts
from registry.facade import ConnectorRegistry
from registry.health import Reason, Status
from registry.ids import Pair
from registry.tail import News, Tail, ends
from registry.watch import Gap, Transition
from tests.fixtures_redis import RedisServer
from tests.fixtures_replicas import SOON, Replicas
from tests.plugin import plugin_config


async def said(reg: ConnectorRegistry, reason: str, tenant: str = "acme") -> None:
    await reg.set_config("plugin", plugin_config(reason=reason), tenant_id=tenant, actor="test")
    await reg.health_check("plugin", tenant_id=tenant, max_age=0)


async def following(items: AsyncGenerator[Transition | Gap, None]) -> Transition | Gap:
    async with asyncio.timeout(SOON):
        return await anext(items)


async def transition(items: AsyncGenerator[Transition | Gap, None]) -> Transition:
    item = await following(items)
    assert isinstance(item, Transition)
    return item


async def test_a_watch_begins_with_a_gap_and_then_tells_every_change(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    async with aclosing(there.watch("acme")) as watch:
        assert isinstance(await following(watch), Gap)
        await said(here, "ok")
        first = await transition(watch)
        assert (first.connector, first.tenant_id, first.before) == ("plugin", "acme", None)
        assert (first.status, first.reason, first.healthy) == (Status.HEALTHY, Reason.OK, True)
        await said(here, "credential_rejected")
        void, broken = await transition(watch), await transition(watch)
        assert (void.before, void.reason) == ((Status.HEALTHY, Reason.OK), Reason.NOT_CHECKED)
        assert (broken.status, broken.reason) == (Status.UNHEALTHY, Reason.CREDENTIAL_REJECTED)
        await here.rotate("plugin", tenant_id="acme")
        assert (await transition(watch)).reason is Reason.NOT_CHECKED
        await here.health_check("plugin", tenant_id="acme", max_age=0)
        assert (await transition(watch)).reason is Reason.CREDENTIAL_REJECTED
        await here.delete_config("plugin", tenant_id="acme", actor="test")
        gone = await transition(watch)
        assert (gone.reason, gone.healthy) == (Reason.NOT_CONFIGURED, False)
        assert gone.version > broken.version > first.version


async def test_a_tenants_watch_tells_nothing_of_others(replica: Replicas) -> None:
    reg = await replica()
    shards = reg._parts.settings.shards
    other = next(f"t{n}" for n in range(100) if keys.shard_of(f"t{n}", shards) == keys.shard_of("acme", shards))
    async with aclosing(reg.watch("acme")) as watch:
        await following(watch)
        await said(reg, "ok", other)
        await said(reg, "ok")
        assert (await transition(watch)).tenant_id == "acme"


async def test_a_watch_resumes_after_a_position(replica: Replicas) -> None:
    reg = await replica()
    async with aclosing(reg.watch("acme")) as watch:
        await following(watch)
        await said(reg, "ok")
        seen = await transition(watch)
    await said(reg, "quota_low")
    async with aclosing(reg.watch("acme", after=seen.position)) as watch:
        assert (await transition(watch)).reason is Reason.NOT_CHECKED
        assert (await transition(watch)).reason is Reason.QUOTA_LOW


async def test_a_position_whose_events_were_trimmed_is_a_gap(replica: Replicas) -> None:
    reg = await replica()
    async with aclosing(reg.watch("acme")) as watch:
        await following(watch)
        await said(reg, "ok")
        seen = await transition(watch)
    await said(reg, "quota_low")
    stream = keys.events(reg._parts.schedule.shard(Pair("plugin", "acme")))
    await reg._parts.redis.xtrim(stream, maxlen=1, approximate=False)
    async with aclosing(reg.watch("acme", after=seen.position)) as watch:
        assert isinstance(await following(watch), Gap)
        await said(reg, "ok")
        assert isinstance(await following(watch), Transition)


async def test_who_stood_at_an_empty_stream_that_was_cut_meanwhile_is_told_a_gap(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.keys.CHANGES_CAP", 3)
    stream = keys.changes(0)
    tail = Tail(parts.redis, await ends(parts.redis, [stream]), wait=0.1)
    assert await tail.read() == News()
    for number in range(10):
        await parts.redis.xadd(stream, {"number": number}, maxlen=3, approximate=False)
    assert await tail.read() == News(gap=True)
    await parts.redis.xadd(stream, {"number": 10})
    assert [entry.fields for entry in (await tail.read()).entries] == [{b"number": b"10"}]


async def test_a_redis_that_lost_its_data_is_a_gap_and_the_watch_goes_on(
    replica: Replicas, redis_server: RedisServer
) -> None:
    reg = await replica(redis_timeout=0.2)
    async with aclosing(reg.watch("acme")) as watch:
        await following(watch)
        await said(reg, "ok")
        await transition(watch)
        redis_server.kill()
        redis_server.start()
        assert isinstance(await following(watch), Gap)
        await reg._parts.reconciler.run()
        await reg.health_check("plugin", tenant_id="acme", max_age=0)
        assert (await transition(watch)).reason is Reason.OK
