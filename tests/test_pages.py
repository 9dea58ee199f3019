"""Many tenants by cursor: every one once, in order, whatever shard it lives in; searched, filtered, bounded."""

from __future__ import annotations

import asyncio
import string
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import ConnectorRegistry, HealthView, Page, Wanted, keys
from registry.bootstrap import Parts
from registry.cache import HealthCache
from registry.circuit import FAILURES
from registry.clock import SharedClock
from registry.errors import CacheUnavailable
from registry.health import Reason, Status
from registry.ids import SYSTEM, Pair
from registry.pages import LIMIT, PART, chosen
from registry.reading import Reading
from registry.settings import Settings
from tests.fixtures_redis import RedisServer
from tests.fixtures_wire import Wire
from tests.test_cache import checked, filled
from tests.test_schedule import enter

TENANTS = ["ACME", "acme", "acme-1", "acme:eu", "acme.x", "b", "globex", "zz9"]


@pytest.fixture
async def registry(parts: Parts) -> ConnectorRegistry:
    await filled(parts)
    for tenant in TENANTS:
        await checked(parts, Pair("github", tenant))
    await checked(parts, Pair("slack", "acme"), Reason.CREDENTIAL_REJECTED)
    await parts.schedule.put(Pair("github", SYSTEM), 1, None, base_url="https://api.example.com", reset=True)
    return ConnectorRegistry(parts)


async def pages(registry: ConnectorRegistry, wanted: Wanted, limit: int) -> AsyncIterator[Page]:
    after: str | None = ""
    while after is not None:
        page = await registry.page(wanted, after=after, limit=limit)
        yield page
        after = page.after


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 9, 100])
async def test_every_tenant_comes_once_and_in_order(registry: ConnectorRegistry, limit: int) -> None:
    found = [page async for page in pages(registry, Wanted(), limit)]
    names = [status.tenant_id for page in found for status in page.statuses if status.connector == "github"]
    assert names == sorted(TENANTS)
    assert len(found) == -(-len(TENANTS) // limit)


async def test_a_prefix_finds_its_tenants_only(registry: ConnectorRegistry) -> None:
    found = [page async for page in pages(registry, Wanted(prefix="acme"), 2)]
    names = [status.tenant_id for page in found for status in page.statuses if status.connector == "github"]
    assert names == sorted(name for name in TENANTS if name.startswith("acme"))


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(statuses=[Status.UNHEALTHY]),
        Wanted(reasons=[Reason.CREDENTIAL_REJECTED]),
        Wanted(connectors=["slack"]),
        Wanted(prefix="acme", connectors=["slack"], statuses=[Status.UNHEALTHY]),
    ],
)
async def test_verdicts_are_filtered_and_the_cursor_goes_on(registry: ConnectorRegistry, wanted: Wanted) -> None:
    found = [status async for page in pages(registry, wanted, 1) for status in page.statuses]
    assert [(status.tenant_id, status.connector) for status in found] == [("acme", "slack")]


async def test_who_has_nothing_any_more_is_not_listed(registry: ConnectorRegistry, parts: Parts) -> None:
    await parts.schedule.remove(Pair("github", "acme"), 2)
    await parts.schedule.remove(Pair("github", "b"), 2)
    found = {status.tenant_id for status in (await registry.page()).statuses}
    assert found == set(TENANTS) - {"b"}, "acme has slack"


async def test_a_view_reads_the_same(registry: ConnectorRegistry, settings: Settings) -> None:
    def read() -> Page:
        with HealthView(settings.redis_url, timeout=2.0, shards=settings.shards) as view:
            return view.page(Wanted(prefix="acme"), limit=2)

    there, here = await asyncio.to_thread(read), await registry.page(Wanted(prefix="acme"), limit=2)
    assert [status.version for status in there.statuses] == [status.version for status in here.statuses]
    assert there.after == here.after == "acme-1"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"unix://{tmp_path / 'wire.sock'}?db=1"


@asynccontextmanager
async def cache_of(url: str, timeout: float, shards: int) -> AsyncIterator[HealthCache]:
    reading = Reading(url, timeout)
    await reading.ask(("PING",))
    try:
        yield HealthCache(reading, SharedClock(), shards=shards)
    finally:
        await reading.aclose()


async def many(parts: Parts, tenants: int) -> list[str]:
    """So many tenants, each with a connector that was never checked; and their names."""
    await filled(parts)
    names = [f"many-{n:04}" for n in range(tenants)]
    async with parts.redis.pipeline(transaction=False) as pipe:
        for name in names:
            shard = keys.shard_of(name, parts.settings.shards)
            pipe.zadd(keys.tenants(shard), {name: 0})
            pipe.set(keys.index(shard, name), "github")
        await pipe.execute()
    return names


@pytest.mark.parametrize(("limit", "parts_of_it"), [(6, 1), (PART, 1), (PART + 1, 2), (3 * PART, 3), (LIMIT, 4)])
async def test_a_page_is_two_round_trips_for_each_part_of_it(
    parts: Parts, settings: Settings, wire: Wire, url: str, limit: int, parts_of_it: int
) -> None:
    names = await many(parts, 3 * PART + 20)
    async with cache_of(url, 2.0, settings.shards) as cache:
        before = wire.turns
        page = await cache.page(Wanted(), limit=limit)
        assert wire.turns == before + 2 * parts_of_it
    assert [status.tenant_id for status in page.statuses] == names[:limit]
    assert page.after == (names[limit - 1] if limit < len(names) else None)


LITTLE = 50_000
"""Bytes of the longest question that Redis answers in time."""


async def test_no_question_of_a_huge_page_is_huge(parts: Parts, settings: Settings, wire: Wire, url: str) -> None:
    names, wire.most = await many(parts, LIMIT), LITTLE

    def read() -> Page:
        with HealthView(url, timeout=2.0, shards=settings.shards) as view:
            return view.page(limit=LIMIT)

    async with cache_of(url, 2.0, settings.shards) as cache:
        here = await cache.page(Wanted(), limit=LIMIT)
    for page in (here, await asyncio.to_thread(read)):
        assert [status.tenant_id for status in page.statuses] == names
        assert page.after is None


async def test_pages_that_are_too_much_for_redis_leave_the_circuit_of_plain_reads_closed(
    parts: Parts, settings: Settings, wire: Wire, url: str
) -> None:
    names, wire.most = await many(parts, PART), 5_000
    pair = Pair("github", names[0])

    def read() -> Reason:
        with HealthView(url, timeout=0.2, shards=settings.shards) as view:
            for _ in range(FAILURES + 1):
                with pytest.raises(CacheUnavailable):
                    view.page()
            return view.status(pair.connector, pair.tenant).reason

    async with cache_of(url, 0.2, settings.shards) as cache:
        for _ in range(FAILURES + 1):
            with pytest.raises(CacheUnavailable):
                await cache.page(Wanted())
        assert (await cache.status(pair)).reason is Reason.NOT_CHECKED
    assert await asyncio.to_thread(read) is Reason.NOT_CHECKED


async def test_nobody_asks_for_more_than_the_limit(parts: Parts) -> None:
    shard = 0
    await parts.redis.zadd(keys.tenants(shard), {f"t{n:05}": 0 for n in range(LIMIT + 500)})
    assert (await parts.cache.page(Wanted(), limit=10**9)).after == f"t{LIMIT - 1:05}"


async def test_a_tenant_configured_anew_is_listed_though_never_checked(parts: Parts) -> None:
    await enter(parts, Pair("github", "acme"))
    (status,) = (await parts.cache.page(Wanted())).statuses
    assert (status.tenant_id, status.reason) == ("acme", Reason.NOT_CHECKED)


async def test_without_redis_there_is_no_page(redis_server: RedisServer) -> None:
    def read() -> None:
        with HealthView(f"unix://{redis_server.directory}/nowhere.sock") as view, pytest.raises(CacheUnavailable):
            view.page()

    await asyncio.to_thread(read)


@given(st.lists(st.sets(st.text(string.ascii_letters + string.digits, min_size=1, max_size=3))), st.integers(1, 5))
def test_what_is_shown_is_what_comes_first_and_the_cursor_is_its_end(shards: list[set[str]], limit: int) -> None:
    answers = [[name.encode() for name in sorted(shard)][: limit + 1] for shard in shards]
    everybody = sorted(name for shard in shards for name in shard)
    shown, after = chosen(answers, limit)
    assert shown == everybody[:limit]
    assert after == (everybody[limit - 1] if len(everybody) > limit else None)
