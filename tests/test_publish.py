import asyncio
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.health import Quota, Reason, Verdict
from registry.ids import Pair
from registry.lease import Lease
from registry.recording import Outcome
from registry.settings import Settings
from tests.fixtures_prometheus import fetched
from tests.test_schedule import enter, record
from worker.housekeeping import publish
from worker.metrics import shard_families
from worker.publish import PLATFORM_SHARD, exposition, push
from worker.snapshot import shard_snapshot

REASONS = {"acme": Reason.OK, "globex": Reason.CREDENTIAL_REJECTED, "initech": Reason.MONITOR_ERROR}


@pytest.fixture
async def parts(settings: Settings, pushgateway: str) -> AsyncIterator[Parts]:
    """Three checked pairs, and a Pushgateway to push to."""
    made = assemble(settings.model_copy(update={"pushgateway_url": pushgateway, "pushgateway_job": "test"}))
    for tenant, reason in REASONS.items():
        await enter(made, Pair("github", tenant))
        task = await made.schedule.task(Pair("github", tenant))
        assert task is not None
        await record(made, task, reason)
    yield made
    await made.aclose()


def samples(text: str, name: str) -> dict[str, float]:
    """The samples of one family by tenant."""
    return {
        sample.labels.get("tenant_id", ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


async def ours() -> float:
    return float("inf")


async def exposed(parts: Parts) -> str:
    return generate_latest(await exposition(parts)).decode()


async def test_the_pushgateway_shows_every_pair(parts: Parts, pushgateway: str) -> None:
    assert await publish(parts, "test:1")
    health = samples(fetched(f"{pushgateway}/metrics"), "registry_connector_health")
    assert {tenant: health[tenant] for tenant in REASONS} == {"acme": 1.0, "globex": 0.0, "initech": -1.0}


@pytest.mark.parametrize(("asked", "groups"), [(1, {"0"}), (3, {"0", "1", "2"}), (100, {"0", "1", "2", "3"})])
async def test_there_are_as_many_groups_as_asked_for_and_none_divides_a_shard(
    parts: Parts, pushgateway: str, asked: int, groups: set[str]
) -> None:
    everywhere = {keys.shard_of(tenant, 4): tenant for tenant in (f"tenant-{n}" for n in range(20))}
    assert len(everywhere) == parts.settings.shards
    for tenant in everywhere.values():
        await enter(parts, Pair("github", tenant))
    there = replace(parts, settings=parts.settings.model_copy(update={"push_groups": asked}))
    assert await push(there, ours)
    text = fetched(f"{pushgateway}/metrics")
    pushed = {
        sample.labels["shard"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "push_time_seconds" and sample.labels["job"] == "test"
    }
    assert pushed == {*groups, PLATFORM_SHARD}
    assert samples(text, "registry_connector_health").keys() >= {*REASONS, *everywhere.values()}


async def test_counters_of_shards_that_share_a_group_are_added(parts: Parts, pushgateway: str) -> None:
    assert await push(parts, ours)
    counted = [
        sample.value
        for family in text_string_to_metric_families(fetched(f"{pushgateway}/metrics"))
        for sample in family.samples
        if sample.name == "registry_health_check_duration_seconds_count" and sample.labels["job"] == "test"
    ]
    assert counted == [3.0]


async def test_only_what_is_remarkable_of_a_pair_has_further_series(parts: Parts) -> None:
    now = parts.clock.now_ms()
    for tenant, days, left in (("soon", 59, 49), ("late", 61, 50)):
        await enter(parts, Pair("github", tenant))
        task = await parts.schedule.task(Pair("github", tenant))
        assert task is not None
        ends_ms = now + days * 86_400_000
        verdict = Verdict(Reason.OK, checked_ms=now, credential_expires_ms=ends_ms, quota=Quota(100, left))
        await parts.recorder.record([Outcome(task, verdict, "github|api.github.com")])
    text = await exposed(parts)
    assert samples(text, "registry_connector_status").keys() == {"globex", "initech"}
    assert samples(text, "registry_connector_credential_expiry_timestamp_seconds").keys() == {"soon"}
    assert samples(text, "registry_connector_quota_remaining_ratio") == {"soon": 0.49}
    assert samples(text, "registry_connector_health").keys() >= {*REASONS, "soon", "late"}


async def test_the_oldest_and_the_newest_verdict_of_a_connector_are_told(parts: Parts) -> None:
    times = [(await parts.cache.status(Pair("github", tenant))).checked_ms for tenant in REASONS]
    text = await exposed(parts)
    told = [samples(text, f"registry_connector_{age}_check_timestamp_seconds")[""] for age in ("oldest", "newest")]
    known = [time / 1000 for time in times if time is not None]
    assert told == [min(known), max(known)]


async def test_a_removed_pair_leaves_the_pushgateway(parts: Parts, pushgateway: str) -> None:
    await publish(parts, "test:1")
    await parts.schedule.remove(Pair("github", "globex"), 2)
    await publish(parts, "test:1")
    assert "globex" not in samples(fetched(f"{pushgateway}/metrics"), "registry_connector_health")


async def test_only_one_process_is_the_publisher(parts: Parts) -> None:
    assert await publish(parts, "one:1")
    assert not await publish(parts, "two:2")


async def test_the_publishers_fence_grows_with_each_new_owner(parts: Parts) -> None:
    one, two = Lease(parts.redis, "t", "one"), Lease(parts.redis, "t", "two")
    first, second, none, again = [await who.hold(ttl) for who, ttl in ((one, 0), (two, 60), (one, 60), (two, 60))]
    assert 0 < first < second
    assert (none, again) == (0, second)


async def test_a_pushgateway_that_is_away_harms_nothing(parts: Parts) -> None:
    away = assemble(parts.settings.model_copy(update={"pushgateway_url": "http://127.0.0.1:9"}))
    assert await publish(away, "test:1")
    assert (await parts.cache.status(Pair("github", "acme"))).healthy
    await away.aclose()


async def test_what_is_exposed_follows_prometheus_practice(parts: Parts, promtool: Path) -> None:
    text = await exposed(parts)
    process = await asyncio.create_subprocess_exec(promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    complaints, _ = await process.communicate(text.encode())
    assert (process.returncode, complaints.decode()) == (0, "")


async def test_checks_are_counted_and_timed_by_connector(parts: Parts) -> None:
    text = await exposed(parts)
    rows = {
        (s.name, s.labels.get("reason"), s.labels.get("le")): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.labels.get("connector") == "github"
    }
    total = sum(value for (name, _, _), value in rows.items() if name == "registry_health_checks_total")
    assert total == 3
    assert rows["registry_health_check_duration_seconds_count", None, None] == 3
    assert rows["registry_health_check_duration_seconds_bucket", None, "+Inf"] == 3


async def test_without_tenant_series_the_aggregates_remain(parts: Parts) -> None:
    names = {
        family.name
        for shard in range(parts.settings.shards)
        for family in shard_families(await shard_snapshot(parts, shard), None)
    }
    assert "registry_connector_health" not in names
    assert "registry_connector_pairs" in names
