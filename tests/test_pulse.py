"""The pulse: somebody outside is called when the whole loop works, and told when it is known to be ill."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from structlog.testing import capture_logs

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.clock import steady
from registry.facts import MINUTE_MS
from worker.housekeeping import pulse

HOUR = 3_600_000


@dataclass
class Receiver:
    """Notes every call as method, path with query, and body."""

    calls: list[tuple[str, str, str]] = field(default_factory=list)
    status: int = 200
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        self.calls.append((request.method, request.path_qs, await request.text()))
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made, app = Receiver(), web.Application()
    app.router.add_route("*", "/{path:.*}", made.take)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/ping/hunter2?rid=7"))
        yield made


@pytest.fixture
async def working(parts: Parts, receiver: Receiver) -> Parts:
    """A system in which everything was seen to work just now."""
    parts = changed(parts, heartbeat_url=SecretStr(receiver.url), pushgateway_url="http://127.0.0.1:9")
    parts.clock.calibrate((1_790_000_010, 0), steady())  # the middle of a minute: none ends in a test
    now = parts.clock.now_ms()
    tasks = ("dispatch", "working", "publish", "reconcile", "detect", "status_pages")
    await parts.redis.hset(keys.PLATFORM, mapping={f"{task}_ms": str(now) for task in tasks})
    await parts.redis.zadd(keys.CHILDREN, {"host:1": now})
    await counted(parts, 2, claimed=5)
    await counted(parts, 0, **{"lag|check|10": 5})
    return parts


def changed(parts: Parts, **settings: object) -> Parts:
    return replace(parts, settings=parts.settings.model_copy(update=settings))


async def counted(parts: Parts, minutes_ago: int, **facts: int) -> None:
    minute = keys.lags(parts.clock.now_ms() // MINUTE_MS - minutes_ago)
    await parts.redis.hset(minute, mapping={name: str(count) for name, count in facts.items()})


async def last(parts: Parts, task: str, ms_ago: int) -> None:
    await parts.redis.hset(keys.PLATFORM, f"{task}_ms", str(parts.clock.now_ms() - ms_ago))


async def test_a_monitor_that_works_says_so(working: Parts, receiver: Receiver) -> None:
    assert await pulse(working, "one:1")
    assert receiver.calls == [("GET", "/ping/hunter2?rid=7", "")]
    assert await working.redis.hget(keys.PLATFORM, "pulse_ms")


@pytest.mark.parametrize("task", ["dispatch", "publish", "reconcile", "detect"])
async def test_a_task_that_stalls_is_told_as_a_failure(working: Parts, receiver: Receiver, task: str) -> None:
    await last(working, task, HOUR)
    assert await pulse(working, "one:1")
    assert receiver.calls == [("POST", "/ping/hunter2/fail?rid=7", f"{task} last succeeded 3600 s ago")]


async def test_workers_that_are_gone_are_told_as_a_failure(working: Parts, receiver: Receiver) -> None:
    await working.redis.delete(keys.CHILDREN)
    assert not await pulse(working, "one:1"), "a restart is no failure yet, and no success either"
    await working.redis.delete(keys.lease("pulse"))
    await last(working, "working", 120_000)
    assert await pulse(working, "one:1")
    assert receiver.calls == [("POST", "/ping/hunter2/fail?rid=7", "no check process has been there for 120 s")]


@pytest.mark.parametrize("waiting", ["claimed", "held_back"])
async def test_checks_that_never_end_are_told_although_every_timer_fires(
    working: Parts, receiver: Receiver, waiting: str
) -> None:
    await working.redis.delete(keys.lags(working.clock.now_ms() // MINUTE_MS))
    await working.redis.delete(keys.lags(working.clock.now_ms() // MINUTE_MS - 2))
    await counted(working, 2, **{waiting: 3})
    assert await pulse(working, "one:1")
    assert receiver.calls == [("POST", "/ping/hunter2/fail?rid=7", "checks are begun and none is finished")]


async def test_checks_that_were_put_off_or_just_begun_are_no_failure(working: Parts, receiver: Receiver) -> None:
    await working.redis.delete(keys.lags(working.clock.now_ms() // MINUTE_MS))
    await counted(working, 1, put_off=3, released=2, claimed=9)
    assert await pulse(working, "one:1")
    assert [method for method, _, _ in receiver.calls] == ["GET"]


async def test_outsiders_that_fail_make_the_monitor_not_ill(working: Parts, receiver: Receiver) -> None:
    for task in ("status_pages", "pulse", "cloud_monitoring"):
        await last(working, task, HOUR)
    assert await pulse(working, "one:1")
    assert [method for method, _, _ in receiver.calls] == ["GET"]


async def test_a_monitor_that_only_starts_says_nothing(working: Parts, receiver: Receiver) -> None:
    await working.redis.hdel(keys.PLATFORM, "publish_ms")
    assert not await pulse(working, "one:1")
    assert receiver.calls == []


async def test_without_redis_the_failure_is_told(working: Parts, receiver: Receiver) -> None:
    away = assemble(working.settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))
    assert await pulse(away, "one:1")
    assert receiver.calls == [("POST", "/ping/hunter2/fail?rid=7", "Redis does not answer")]
    await away.aclose()


async def test_one_process_speaks_for_all(working: Parts, receiver: Receiver) -> None:
    assert await pulse(working, "one:1")
    assert not await pulse(working, "two:2")
    assert len(receiver.calls) == 1


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_a_call_that_is_not_taken_is_no_success_and_its_address_is_not_told(
    working: Parts, receiver: Receiver, status: int
) -> None:
    receiver.status = status
    with capture_logs() as logged:
        assert not await pulse(working, "one:1")
    assert [line["event"] for line in logged] == ["pulse_not_taken"]
    assert "hunter2" not in f"{logged}{working.settings!r}"
    assert len(receiver.calls) == 1, "nobody is followed elsewhere"
    assert not await working.redis.hget(keys.PLATFORM, "pulse_ms")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/hunter2", "hunter2", "http://[hunter2"])
async def test_an_address_that_is_of_no_use_harms_nothing(working: Parts, url: str) -> None:
    with capture_logs() as logged:
        assert not await pulse(changed(working, heartbeat_url=SecretStr(url)), "one:1")
    assert [line["event"] for line in logged] == ["pulse_not_taken"]
    assert "hunter2" not in str(logged)
