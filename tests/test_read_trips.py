"""What reading asks of Redis, counted on the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from registry.bootstrap import Parts
from registry.cache import HealthCache
from registry.clock import SharedClock
from registry.health import Reason
from registry.ids import Pair
from registry.reading import Reading
from registry.settings import Settings
from registry.view import HealthView
from tests.fixtures_wire import Wire
from tests.test_cache import checked, filled

NAMES = ("github", "linear", "slack")


@pytest.fixture
async def tenant(parts: Parts) -> str:
    await filled(parts)
    for name in NAMES:
        await checked(parts, Pair(name, "acme"))
    return "acme"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"unix://{tmp_path / 'wire.sock'}?db=1"


async def test_each_read_of_a_view_is_one_round_trip(url: str, wire: Wire, tenant: str, settings: Settings) -> None:
    def read() -> None:
        with HealthView(url, timeout=2.0, shards=settings.shards) as view:
            view.status("github", "globex")  # the connection is made
            for question in (
                lambda: view.status("github", tenant),
                lambda: view.status("gitlab", tenant),
                lambda: view.statuses(tenant),
                lambda: view.statuses(tenant),
                lambda: view.statuses(tenant, ("github", "gitlab")),
                lambda: view.healthy(tenant),
            ):
                before = wire.turns
                question()
                assert wire.turns == before + 1
            assert view.statuses(tenant).keys() == set(NAMES)

    await asyncio.to_thread(read)


async def test_each_read_of_the_cache_is_one_round_trip(url: str, wire: Wire, tenant: str, settings: Settings) -> None:
    reading, clock = Reading(url, 2.0), SharedClock()
    cache = HealthCache(reading, clock, shards=settings.shards)
    await reading.ask(("PING",))
    assert clock.due, "the first of them also asks for the time"
    for question in (cache.configured(tenant), cache.configured(tenant), cache.statuses(tenant, ("gitlab", *NAMES))):
        before = wire.turns
        page = await question
        assert wire.turns == before + 1
        assert [page[name].reason for name in NAMES] == [Reason.OK] * 3
    await reading.aclose()


async def test_a_connector_more_or_less_is_seen_by_the_very_next_read(parts: Parts, tenant: str) -> None:
    assert (await parts.cache.configured(tenant)).keys() == set(NAMES)
    await checked(parts, Pair("gitlab", tenant))
    assert (await parts.cache.configured(tenant)).keys() == {*NAMES, "gitlab"}
    await parts.schedule.remove(Pair("github", tenant), 2)
    assert (await parts.cache.configured(tenant)).keys() == {"gitlab", "linear", "slack"}
