from collections.abc import Iterator

import pytest

from registry import keys
from registry.bootstrap import Parts
from registry.connection import connect_sync
from registry.errors import CacheUnavailable, InvalidId
from registry.health import Fault, Reason, Status
from registry.ids import SYSTEM, Pair
from registry.packing import unpacked
from registry.settings import Settings
from registry.view import HealthView
from tests.fixtures_redis import RedisServer
from tests.test_schedule import ACME, enter, record


@pytest.fixture
def view(settings: Settings) -> Iterator[HealthView]:
    with HealthView(settings.redis_url, timeout=2.0, shards=settings.shards) as made:
        yield made


async def checked(parts: Parts, pair: Pair, reason: Reason = Reason.OK) -> None:
    await enter(parts, pair)
    task = await parts.schedule.task(pair)
    assert task is not None
    assert await record(parts, task, reason)


async def filled(parts: Parts) -> None:
    """Say that the index of pairs is complete, as `reconcile` does."""
    for shard in range(parts.settings.shards):
        await parts.redis.set(keys.epoch(shard), 1)


async def test_a_verdict_reads_the_same_in_both_views(parts: Parts, view: HealthView) -> None:
    await checked(parts, ACME)
    here, there = await parts.cache.status(ACME), view.status("github", "acme")
    assert (here.status, here.reason, here.version) == (there.status, there.reason, there.version)
    assert there.healthy


async def test_without_a_verdict_a_configured_pair_is_not_checked(parts: Parts, view: HealthView) -> None:
    await filled(parts)
    await enter(parts, ACME)
    await parts.redis.delete(keys.verdict(parts.schedule.shard(ACME), ACME))
    assert view.status("github", "acme").reason is Reason.NOT_CHECKED
    assert (await parts.cache.status(ACME)).reason is Reason.NOT_CHECKED


async def test_what_the_tenant_does_not_have_is_not_configured(parts: Parts, view: HealthView) -> None:
    await filled(parts)
    await checked(parts, ACME)
    status = view.status("slack", "acme")
    assert (status.reason, status.fault, status.healthy) == (Reason.NOT_CONFIGURED, Fault.NONE, False)


async def test_without_an_index_nothing_is_called_not_configured(parts: Parts, view: HealthView) -> None:
    assert view.status("slack", "acme").reason is Reason.NOT_CHECKED
    assert (await parts.cache.status(Pair("slack", "acme"))).reason is Reason.NOT_CHECKED


async def test_a_verdict_past_its_time_is_unknown(parts: Parts, view: HealthView) -> None:
    await checked(parts, ACME)
    key = keys.verdict(parts.schedule.shard(ACME), ACME)
    wire = await parts.redis.get(key)
    assert isinstance(wire, bytes)
    fresh = view.status("github", "acme").fresh_until_ms
    assert fresh is not None
    await parts.redis.set(key, wire.replace(str(fresh).encode(), str(fresh - 10**8).encode()))
    status = view.status("github", "acme")
    assert (status.status, status.reason, status.last_known) == (Status.UNKNOWN, Reason.STALE, Status.HEALTHY)


async def test_a_record_has_a_hard_ttl_beyond_its_freshness(parts: Parts, view: HealthView) -> None:
    await checked(parts, ACME)
    ttl = await parts.redis.pttl(keys.verdict(parts.schedule.shard(ACME), ACME))
    status = view.status("github", "acme")
    assert status.fresh_until_ms is not None
    assert ttl > status.fresh_until_ms - status.read_ms


async def test_a_tenants_page_is_read_in_one_go(parts: Parts, view: HealthView) -> None:
    await filled(parts)
    await checked(parts, ACME)
    await checked(parts, Pair("slack", "acme"), Reason.CREDENTIAL_REJECTED)
    page = view.statuses("acme", ["github", "slack", "linear"])
    assert {name: status.reason.value for name, status in page.items()} == {
        "github": "ok",
        "slack": "credential_rejected",
        "linear": "not_configured",
    }
    assert view.statuses("acme").keys() == {"github", "slack"}
    assert view.healthy("acme") == ["github"]


async def test_one_tenants_page_shows_nothing_of_another(parts: Parts, view: HealthView) -> None:
    await filled(parts)
    await checked(parts, ACME)
    assert view.statuses("globex") == {}
    assert view.status("github", "globex").reason is Reason.NOT_CONFIGURED


async def test_the_service_check_belongs_to_no_tenant(parts: Parts, view: HealthView) -> None:
    pair = Pair("github", SYSTEM)
    await parts.schedule.put(pair, 1, None, base_url="https://api.example.com", reset=True)
    task = await parts.schedule.task(pair)
    assert task is not None
    await record(parts, task)
    status = view.status("github", None)
    assert (status.healthy, status.tenant_id) == (True, None)


@pytest.mark.parametrize("tenant", ["*", "", "a b", "-a", "a" * 129, "a\n"])
def test_ids_outside_the_alphabet_are_refused(view: HealthView, tenant: str) -> None:
    with pytest.raises(InvalidId, match="tenant id"):
        view.status("github", tenant)


async def test_when_redis_is_away_a_read_says_unknown_and_whose_fault_it_is(redis_server: RedisServer) -> None:
    with HealthView(f"unix://{redis_server.directory}/nowhere.sock") as view:
        status = view.status("github", "acme")
        assert (status.status, status.reason, status.fault) == (Status.UNKNOWN, Reason.MONITOR_ERROR, Fault.PLATFORM)
        assert {s.reason for s in view.statuses("acme", ["github"]).values()} == {Reason.MONITOR_ERROR}
        with pytest.raises(CacheUnavailable):
            view.statuses("acme")


def test_a_strict_view_raises_when_redis_is_away(redis_server: RedisServer) -> None:
    with (
        HealthView(f"unix://{redis_server.directory}/nowhere.sock", strict=True) as view,
        pytest.raises(CacheUnavailable, match="Redis"),
    ):
        view.status("github", "acme")


async def test_a_redis_that_hangs_costs_a_reader_its_timeout(parts: Parts, settings: Settings) -> None:
    await checked(parts, ACME)
    with HealthView(settings.redis_url, timeout=0.2, shards=settings.shards) as view:
        assert view.status("github", "acme").healthy
        pauser = connect_sync(settings.redis_url, 5)
        pauser.client_pause(1_000)
        assert view.status("github", "acme").reason is Reason.MONITOR_ERROR
        pauser.client_unpause()
        pauser.close()
        assert view.status("github", "acme").healthy, "and it heals by itself"


async def test_configurations_never_reach_the_cache_with_a_secret(parts: Parts) -> None:
    await enter(parts, ACME)
    wire = await parts.redis.hget(keys.configs(parts.schedule.shard(ACME), "github"), "acme")
    assert isinstance(wire, bytes)
    revision, _, kept = wire.partition(b"\n")
    assert (revision, unpacked(kept, ACME)) == (b"1", b'{"auth":{"type":"bearer","token":"env://TOKEN"}}')
