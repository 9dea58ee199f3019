"""Redis behind Sentinel: everything finds the master, and the next one after a failover."""

from __future__ import annotations

import socket
from contextlib import suppress

import kombu
import pytest

from registry import HealthView
from registry.bootstrap import Parts, assemble
from registry.connection import AWAY, connect_sync
from registry.errors import InvalidConfig
from registry.health import Reason
from registry.ids import Pair
from registry.reading import Reading
from registry.sentinel import Service
from registry.settings import Settings
from tests.fixtures_sentinel import SentinelSystem
from tests.test_cache import checked
from tests.test_schedule import ACME
from tests.waiting import reached

pytestmark = pytest.mark.timeout(90)


async def read_until_healthy(view: HealthView) -> set[Reason]:
    """Read until the verdict is back; returns what was said before."""
    said: set[Reason] = set()

    def healthy() -> bool:
        status = view.status("github", "acme")
        said.update([] if status.healthy else [status.reason])
        return status.healthy

    await reached("the verdict is back", healthy)
    return said


async def test_cache_schedule_and_readers_follow_a_failover(sentinel: SentinelSystem, settings: Settings) -> None:
    behind = settings.model_copy(update={"redis_url": sentinel.url(), "redis_timeout": 2.0})
    parts = assemble(behind)
    with HealthView(behind.redis_url, timeout=0.5, shards=behind.shards) as view:
        await checked(parts, ACME)
        assert view.status("github", "acme").healthy
        before = await parts.cache.status(ACME)
        sentinel.replicated()
        sentinel.fail_over()
        assert await read_until_healthy(view) <= {Reason.MONITOR_ERROR}
        await written(parts, Pair("slack", "acme"))
        assert (await parts.cache.status(ACME)).version == before.version
        assert (await parts.cache.status(Pair("slack", "acme"))).healthy
    await parts.aclose()


async def test_a_sentinel_that_never_answers_blinds_no_reader(sentinel: SentinelSystem) -> None:
    """Its host is gone, and perhaps that of the master with it."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = sentinel.url().replace("://", f"://127.0.0.1:{mute.getsockname()[1]},")
        reading = Reading(url, 0.5)

        async def answered() -> bool:
            with suppress(*AWAY):
                return await reading.ask(("PING",)) == [b"PONG"]
            return False

        await reached("an answer", answered)
        await reading.aclose()


async def written(parts: Parts, pair: Pair) -> None:
    """Check a pair, as soon as the clients have found the new master."""

    async def was_checked() -> bool:
        with suppress(*AWAY):
            await checked(parts, pair)
            return True
        return False

    async def is_read() -> bool:
        return (await parts.cache.status(pair)).healthy

    await reached("a new master", was_checked)
    await reached("its circuit closes", is_read)


async def test_celery_and_what_looks_at_its_queues_find_the_same_broker(
    sentinel: SentinelSystem, settings: Settings
) -> None:
    behind = settings.model_copy(update={"broker_url": sentinel.broker_url, "broker_master": "cache"})
    with kombu.Connection(behind.broker_url, transport_options={"master_name": behind.broker_master}) as broker:
        queue = broker.SimpleQueue("checks")
        queue.put({"a": 1})
        queue.close()
    with connect_sync(behind.broker_redis_url, 5.0) as looking:
        assert looking.llen("checks") == 1


@pytest.mark.parametrize(
    ("url", "sentinels", "name", "database", "tls"),
    [
        ("redis+sentinel://a:1,b/main/2", (("a", 1), ("b", 26379)), "main", 2, False),
        ("rediss+sentinel://u:p%40ss@a/main", (("a", 26379),), "main", 0, True),
        ("redis+sentinel://[::1]:5,a/main?sentinel_password=x", (("::1", 5), ("a", 26379)), "main", 0, False),
    ],
)
def test_a_url_names_sentinels_service_and_database(
    url: str, sentinels: tuple[tuple[str, int], ...], name: str, database: int, tls: bool
) -> None:
    service = Service.parse(url)
    assert (service.sentinels, service.name, service.database, service.tls) == (sentinels, name, database, tls)


def test_logins_of_redis_and_of_the_sentinels_are_two() -> None:
    service = Service.parse("redis+sentinel://u:p%40ss@a/main?sentinel_username=s&sentinel_password=t")
    assert (service.login, service.sentinel_login) == (
        {"username": "u", "password": "p@ss"},
        {"username": "s", "password": "t"},
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://u:hunter2@a:1/",
        "redis+sentinel://u:hunter2@:1/main",
        "redis+sentinel://u:hunter2@a:x/main",
        "redis+sentinel://u:hunter2@a/main/one",
    ],
)
def test_what_cannot_be_meant_is_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        Service.parse(url)
    assert "hunter2" not in str(refused.value)
