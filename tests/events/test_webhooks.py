"""From a verdict that turned to a webhook that was told: real Redis, real HTTP."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from registry import keys
from registry.bootstrap import Parts
from registry.clock import steady
from registry.connectors import CONNECTORS
from registry.errors import InvalidConfig
from registry.health import REASONS, Fault, Reason, Status, Verdict
from registry.ids import Pair
from registry.incidents import Incident, IncidentKind
from registry.recording import Outcome
from tests.test_schedule import CONFIG
from worker.events import box
from worker.events.deliver import GONE_MS, MOST_ATTEMPTS, REFUSED_ATTEMPTS, Deliverer
from worker.events.gather import Gatherer
from worker.events.message import Message, MessageType
from worker.events.retention import trim
from worker.events.standing import ASKED_MS, lost, standings
from worker.events.telling import Rules, Turn
from worker.events.telling import Telling as Remembered
from worker.events.webhooks import load_webhooks
from worker.incidents import _write
from worker.metrics import platform_families
from worker.snapshot import platform_snapshot

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
Rows = list[tuple[bytes, dict[bytes, bytes]]]
RULES = Rules(vendor_ms=0)


@dataclass
class Receiver:
    """A webhook's other end: answers with `statuses` in turn, then with 204.

    `begun` are the times it was told that telling begins, which every test starts with; `got` is all the rest.
    """

    statuses: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    begun: list[bytes] = field(default_factory=list)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        if request.headers["webhook-id"].startswith("begun-"):
            self.begun.append(await request.read())
            return web.Response(status=204)
        self.got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/hook", made.take)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/hook"))
        yield made


async def turn(parts: Parts, reason: Reason, tenant: str = "acme", *, times: int = 1) -> None:
    """Let a pair's checks come to `reason`."""
    pair = Pair("github", tenant)
    await parts.schedule.put(pair, 1, CONFIG, reset=True)
    for _ in range(times):
        task = await parts.schedule.task(pair)
        assert task is not None
        verdict = Verdict(reason, REASONS[reason].fault, parts.clock.now_ms())
        await parts.recorder.record([Outcome(task, verdict, "github|api.github.com")])


class Telling:
    """Gathers and delivers, as the periodic task does."""

    def __init__(self, parts: Parts, webhooks: dict[str, dict[str, object]], path: Path, owner: str) -> None:
        file = path / "webhooks.yaml"
        file.write_text(yaml.safe_dump({"webhooks": webhooks}))
        self.parts = parts
        known = load_webhooks(file, parts.catalog.list())
        self.gatherer = Gatherer(parts, RULES, known)
        self.deliverer = Deliverer(parts, known, source="/test", owner=owner, jitter=lambda: 0.0)

    async def tell(self) -> None:
        await self.deliverer.tick()
        await self.deliverer.drain()
        await self.gatherer.gather()
        await self.deliverer.tick()
        await self.deliverer.drain()

    async def retry(self, webhook: str) -> None:
        """Let every pause be over: before the next attempt, and before the next look at what waits."""
        await self.parts.redis.hset(box.attempts(webhook), "next_ms", "0")
        for pair in cast("list[bytes]", await self.parts.redis.zrange(box.OPEN, 0, -1)):
            await self.parts.redis.zadd(box.OPEN, {pair: 0})
        await self.tell()


class Tells(Protocol):
    """Makes a `Telling` of webhooks by name."""

    def __call__(self, webhooks: dict[str, dict[str, object]], owner: str = "one") -> Telling: ...


@pytest.fixture
async def tells(parts: Parts, tmp_path: Path) -> AsyncIterator[Tells]:
    made: list[Telling] = []

    def make(webhooks: dict[str, dict[str, object]], owner: str = "one") -> Telling:
        made.append(Telling(parts, webhooks, tmp_path, owner))
        return made[-1]

    yield make
    for telling in made:
        await telling.deliverer.aclose()


async def test_a_broken_credential_reaches_a_webhook_as_a_signed_cloudevent(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    telling = tells({"ops": {"url": receiver.url, "secret": SECRET}})
    await telling.tell()
    await turn(parts, Reason.CREDENTIAL_REJECTED)
    await telling.tell()
    assert receiver.got == []  # one check is not enough to tell a tenant
    await turn(parts, Reason.CREDENTIAL_REJECTED)
    await telling.retry("ops")
    (headers, body), event = receiver.got[0], receiver.events[0]
    assert len(receiver.got) == 1
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert (event["specversion"], event["type"], event["subject"]) == ("1.0", "connectors.transition", "acme/github")
    assert (event["id"], event["source"]) == (headers["webhook-id"], "/test")
    data = event["data"]
    assert isinstance(data, dict)
    assert data["to"] == {"status": "unhealthy", "reason": "credential_rejected"}
    assert (data["fault"], data["healthy"]) == ("tenant", False)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) * 1000 - parts.clock.now_ms()) < 60_000


async def test_who_fails_is_tried_again_with_the_same_id_and_holds_nobody_else_up(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    receiver.statuses = [503]
    other = Receiver()
    app = web.Application()
    app.router.add_post("/hook", other.take)
    async with TestServer(app) as server:
        hooks = {"sick": {"url": receiver.url}, "well": {"url": str(server.make_url("/hook"))}}
        telling = tells({name: dict(hook) for name, hook in hooks.items()})
        await telling.tell()
        await turn(parts, Reason.SLOW)
        await telling.tell()
        await turn(parts, Reason.OK)
        await telling.tell()
        assert [event["type"] for event in other.events] == ["connectors.transition"] * 2
        assert len(receiver.got) == 1  # its pause is not over
        await telling.retry("sick")
        assert [event["id"] for event in receiver.events] == [other.events[0]["id"], *(e["id"] for e in other.events)]


@pytest.mark.parametrize(("status", "attempts"), [(400, REFUSED_ATTEMPTS), (500, MOST_ATTEMPTS), (429, MOST_ATTEMPTS)])
async def test_what_is_never_taken_becomes_a_dead_letter_and_the_rest_goes_on(
    parts: Parts, receiver: Receiver, tells: Tells, status: int, attempts: int
) -> None:
    receiver.statuses = [status] * attempts
    telling = tells({"ops": {"url": receiver.url}})
    await telling.tell()
    await turn(parts, Reason.SLOW)
    await telling.tell()
    for _ in range(attempts - 1):
        await telling.retry("ops")
    assert len(receiver.got) == attempts
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    letters = cast("Rows", await parts.redis.xrange(box.dead("ops")))
    assert [letter[1][b"told"] for letter in letters] == [f"HTTP {status}".encode()]
    await turn(parts, Reason.OK)
    await telling.tell()
    assert len(receiver.got) == attempts + 1
    counts = await parts.redis.hgetall(box.COUNTS)
    assert counts == {b"failed|ops": str(attempts).encode(), b"dead|ops": b"1", b"delivered|ops": b"2"}  # and the first


async def test_a_process_that_dies_between_sending_and_noting_it_sends_again(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    telling = tells({"ops": {"url": receiver.url}})
    await telling.tell()
    before = await parts.redis.hget(box.SENT, "ops")
    assert before is not None
    await turn(parts, Reason.SLOW)
    await telling.tell()
    await parts.redis.hset(box.SENT, "ops", before)  # as if it had not been noted
    await telling.tell()
    assert len(receiver.got) == 2
    assert receiver.events[0] == receiver.events[1]


async def test_nothing_is_told_twice_when_gathering_is_repeated(parts: Parts, receiver: Receiver, tells: Tells) -> None:
    telling = tells({"ops": {"url": receiver.url}})
    await telling.tell()
    await turn(parts, Reason.SLOW)
    assert await telling.gatherer.gather() == 1
    assert await telling.gatherer.gather() == 0
    await telling.tell()
    assert len(receiver.got) == 1


async def test_an_incident_is_told_and_people_are_not_told_of_each_pair_it_explains(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    telling = tells({"people": {"url": receiver.url, "form": "slack"}})
    await telling.tell()
    now = parts.clock.now_ms()
    outage = Incident(IncidentKind.OUTAGE, "github|api.github.com", now, now, 12, "no <usable> answer & more")
    await _write(parts, [], [outage])
    for tenant in ("acme", "globex"):
        await turn(parts, Reason.VENDOR_ERROR, tenant, times=2)
    await telling.tell()
    await telling.retry("people")
    await _write(parts, [outage], [])
    await telling.tell()
    texts = [str(event["text"]) for event in receiver.events]
    assert len(texts) == 2
    assert "outage of github at api.github.com: no &lt;usable&gt; answer &amp; more" in texts[0]
    assert texts[1].startswith(":white_check_mark: Over: outage of github")


async def test_an_incident_at_another_address_of_the_connector_explains_nothing_and_is_nobody_elses_business(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    """A tenant's own server is down; another tenant's check fails at the vendor's address."""
    people: dict[str, object] = {"url": receiver.url, "form": "slack", "tenants": ["globex"]}
    telling = tells({"people": people, "all": {"url": receiver.url}})
    await telling.tell()
    now = parts.clock.now_ms()
    await _write(parts, [], [Incident(IncidentKind.OUTAGE, "github|github.acme.example", now, now, 1, "no answer")])
    await turn(parts, Reason.VENDOR_ERROR, "globex", times=2)
    await telling.tell()
    await telling.retry("people")
    told = [body.decode() for _, body in receiver.got if b"globex" in body]
    assert len(told) == 2, "people are told too, for nothing explains it"
    assert not [body for body in told if "acme" in body]


async def test_a_webhook_is_told_of_what_it_asks_for_only(parts: Parts, receiver: Receiver, tells: Tells) -> None:
    hook = {"url": receiver.url, "tenants": ["acme"], "connectors": ["github"], "faults": ["vendor", "none"]}
    telling = tells({"ops": dict(hook)})
    await telling.tell()
    await turn(parts, Reason.SLOW, "globex")
    await turn(parts, Reason.QUOTA_LOW, "acme")
    await turn(parts, Reason.SLOW, "acme")
    await telling.tell()
    assert [event["subject"] for event in receiver.events] == ["acme/github"]
    assert b"globex" not in receiver.got[0][1]


async def test_transitions_that_were_cut_off_unread_are_counted_and_told(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    telling = tells({"ops": {"url": receiver.url}})
    await turn(parts, Reason.OK)
    await telling.tell()
    await turn(parts, Reason.SLOW)
    await parts.redis.xtrim(keys.events(keys.shard_of("acme", parts.settings.shards)), maxlen=0, approximate=False)
    await turn(parts, Reason.OK)
    await telling.tell()
    assert [event["type"] for event in receiver.events] == ["connectors.lost"]
    assert await parts.redis.hget(box.COUNTS, "lost") == b"1"


@pytest.mark.parametrize("asked", [{}, {"tenants": ["acme"]}, {"faults": ["vendor"]}, {"form": "slack"}])
async def test_everybody_is_told_when_telling_begins_and_when_it_begins_anew_with_an_empty_redis(
    parts: Parts, receiver: Receiver, tells: Tells, asked: dict[str, object]
) -> None:
    telling = tells({"ops": {"url": receiver.url, **asked}})
    await telling.tell()
    await telling.tell()
    assert len(receiver.begun) == 1
    await parts.redis.flushdb()
    await telling.tell()
    assert len(receiver.begun) == 2
    assert b"read the statuses" in receiver.begun[1]
    assert await lost(parts) == 0


async def test_it_begins_for_all_whoever_looked_before(parts: Parts, receiver: Receiver, tells: Tells) -> None:
    """A webhook's position may be made before, or after, the message is there."""
    telling = tells({"early": {"url": receiver.url}})
    await telling.deliverer.tick()
    await telling.deliverer.drain()
    both = tells({"early": {"url": receiver.url}, "late": {"url": receiver.url}})
    await both.gatherer.gather()
    await both.deliverer.tick()
    await both.deliverer.drain()
    assert len(receiver.begun) == 2


async def test_it_begins_for_whoever_asks_for_its_position_just_then(
    parts: Parts, receiver: Receiver, tells: Tells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process gathers between two questions of this one."""
    telling, other = tells({"ops": {"url": receiver.url}}), tells({"ops": {"url": receiver.url}}, owner="two")
    xrevrange = parts.redis.xrevrange

    async def after_another(*args: object, **kwargs: object) -> object:
        monkeypatch.undo()
        await other.gatherer.gather()
        return await xrevrange(*args, **kwargs)  # type: ignore[arg-type]  # whatever it is called with

    monkeypatch.setattr(parts.redis, "xrevrange", after_another)
    await telling.deliverer.tick()
    await telling.deliverer.drain()
    assert len(receiver.begun) == 1


async def test_a_webhook_that_is_added_later_is_told_what_happens_from_then_on(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    telling = tells({"ops": {"url": "http://127.0.0.1:9/nobody"}})
    await telling.tell()
    await turn(parts, Reason.SLOW)
    await telling.tell()
    telling = tells({"ops": {"url": "http://127.0.0.1:9/nobody"}, "new": {"url": receiver.url}})
    await telling.tell()
    assert (receiver.begun, receiver.got) == ([], [])
    await turn(parts, Reason.OK)
    await telling.tell()
    assert [event["type"] for event in receiver.events] == ["connectors.transition"]


async def test_a_redis_that_was_set_back_is_noticed_and_told_once(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    telling = tells({"ops": {"url": receiver.url}})
    await turn(parts, Reason.OK)
    await telling.tell()
    copies = {name: await parts.redis.dump(name) for name in await parts.redis.keys()}
    await turn(parts, Reason.SLOW)
    await telling.tell()
    assert [event["type"] for event in receiver.events] == ["connectors.transition"]
    await parts.redis.flushdb()
    for name, copy in copies.items():
        assert copy is not None
        await parts.redis.restore(name, 0, copy)
    await telling.tell()
    await telling.tell()
    assert [event["type"] for event in receiver.events] == ["connectors.transition", "connectors.lost"]
    assert "set back" in str(receiver.events[1]["data"])
    assert await lost(parts) == 1


async def test_of_several_tellers_one_tells_that_telling_began_or_was_set_back(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    one, other = (tells({"ops": {"url": receiver.url}}, owner=name) for name in ("one", "two"))
    for telling in (one, other):
        await turn(parts, Reason.OK)
        await telling.gatherer.gather()
    await parts.redis.flushdb()
    assert [await telling.gatherer.gather() for telling in (one, other)] == [1, 0]
    copies = {name: await parts.redis.dump(name) for name in await parts.redis.keys()}
    for _ in range(2):
        for telling in (one, other):
            await turn(parts, Reason.SLOW)
            await telling.gatherer.gather()
        await parts.redis.flushdb()
        for name, copy in copies.items():
            assert copy is not None
            await parts.redis.restore(name, 0, copy)
        assert [await telling.gatherer.gather() for telling in (one, other)] == [1, 0]
    assert await lost(parts) == 1, "the copy knows of none"


async def test_a_webhook_that_another_process_sends_to_keeps_its_place(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    """Its file is newer than this one's; nobody's is, once it was long ago."""
    newer = tells({"ops": {"url": receiver.url}, "added": {"url": receiver.url}}, owner="two")
    older = tells({"ops": {"url": receiver.url}})
    await newer.tell()
    await older.tell()
    assert set(await parts.redis.hkeys(box.SENT)) == {b"ops", b"added"}
    await parts.redis.hset(keys.lease("webhook:added"), "at", parts.clock.now_ms() - GONE_MS - 1_000)
    await older.tell()
    assert await parts.redis.hkeys(box.SENT) == [b"ops"]


async def test_what_waits_for_a_webhook_of_a_newer_file_is_kept(parts: Parts, receiver: Receiver, tells: Tells) -> None:
    newer = tells({"ops": {"url": receiver.url}, "added": {"url": "http://127.0.0.1:9/nobody"}}, owner="two")
    older = tells({"ops": {"url": receiver.url}})
    await newer.tell()
    async with parts.redis.pipeline() as pipe:
        for _ in range(300):  # a stream is cut a hundred at a time
            pipe.xadd(box.OUTBOX, {"message": msgspec.json.encode(Message("x", MessageType.TEST, 1, "news", {}))})
        await pipe.execute()
    await parts.redis.hset(keys.lease("webhook:ops"), "until", 0)
    await older.tell()
    await older.deliverer.tick()
    await older.deliverer.drain()
    assert len(receiver.got) == 300
    assert await parts.redis.xlen(box.OUTBOX) >= 300


async def test_a_webhook_that_was_taken_out_is_behind_with_nothing(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    await tells({"gone": {"url": receiver.url}}).tell()
    assert [standing.webhook for standing in await standings(parts)] == ["gone"]
    await parts.redis.hset(keys.lease("webhook:gone"), "at", parts.clock.now_ms() - ASKED_MS - 1_000)
    assert await standings(parts) == []


async def test_the_attempts_at_a_message_that_was_cut_off_are_not_the_next_ones(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    receiver.statuses = [500, 500]
    telling = tells({"ops": {"url": receiver.url}})
    await telling.tell()
    for reason in (Reason.SLOW, Reason.OK):
        await turn(parts, reason)
        await telling.tell()
    await parts.redis.hset(box.attempts("ops"), "attempts", MOST_ATTEMPTS - 1)
    await parts.redis.xtrim(box.OUTBOX, maxlen=1, approximate=False)  # as the cap does
    await telling.retry("ops")
    assert [standing.dead for standing in await standings(parts)] == [0]


async def test_who_waits_when_the_clock_is_set_back_waits_no_longer_for_it(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    telling = tells({"ops": {"url": receiver.url}})
    await telling.tell()
    await turn(parts, Reason.CREDENTIAL_REJECTED)
    await telling.gatherer.gather()
    (state,) = await parts.redis.hvals(box.PAIRS)
    ahead = json.loads(state)
    ahead["waiting"]["at_ms"] += 3_600_000
    await parts.redis.hset(box.PAIRS, "github:acme", json.dumps(ahead))
    await parts.redis.zadd(box.OPEN, {"github:acme": parts.clock.now_ms() + 3_600_000})
    task = await parts.schedule.task(Pair("github", "acme"))
    assert task is not None
    verdict = Verdict(Reason.CREDENTIAL_REJECTED, Fault.TENANT, parts.clock.now_ms())
    await parts.recorder.record([Outcome(task, verdict, "github|api.github.com")])
    await telling.tell()
    assert [event["type"] for event in receiver.events] == ["connectors.transition"]


async def test_a_teller_that_stood_still_notes_nothing_when_somebody_else_has_gone_on(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def stall(request: web.Request) -> web.Response:
        if not arrived.is_set() and not request.headers["webhook-id"].startswith("begun-"):
            arrived.set()
            await answer.wait()
            return web.Response()
        return await receiver.take(request)

    app = web.Application()
    app.router.add_post("/hook", stall)
    async with TestServer(app) as server:
        telling = tells({"ops": {"url": str(server.make_url("/hook"))}})
        await telling.tell()
        for reason in (Reason.SLOW, Reason.OK):
            await turn(parts, reason)
            await telling.gatherer.gather()
        await telling.deliverer.tick()
        await arrived.wait()
        await parts.redis.hset(keys.lease("webhook:ops"), "until", 0)  # its time is over
        other = tells({"ops": {"url": str(server.make_url("/hook"))}}, owner="two")
        await other.deliverer.tick()
        await other.deliverer.drain()
        reached = await parts.redis.hget(box.SENT, "ops")
        answer.set()
        await telling.deliverer.drain()
    assert [event["type"] for event in receiver.events] == ["connectors.transition"] * 2
    assert await parts.redis.hget(box.SENT, "ops") == reached
    assert (await parts.redis.hgetall(box.COUNTS))[b"delivered|ops"] == b"3"


@pytest.mark.parametrize("asked", [{"tenants": ["acme"]}, {"connectors": ["github"]}, {"faults": ["vendor"]}])
async def test_who_asks_for_some_transitions_is_told_too_that_some_were_lost(
    parts: Parts, receiver: Receiver, tells: Tells, asked: dict[str, object]
) -> None:
    """Nobody knows whose they were."""
    telling = tells({"ops": {"url": receiver.url, **asked}})
    await turn(parts, Reason.OK)
    await telling.tell()
    await parts.redis.xtrim(keys.events(keys.shard_of("acme", parts.settings.shards)), maxlen=0, approximate=False)
    await telling.tell()
    assert [event["type"] for event in receiver.events] == ["connectors.lost"]


async def test_a_transition_is_kept_until_every_registered_reader_has_read_it(parts: Parts, tmp_path: Path) -> None:
    parts.settings.__dict__["webhooks_file"] = tmp_path  # settings are frozen for everybody but this test
    stream = keys.events(0)
    old = parts.clock.now_ms() - 7_200_000
    async with parts.redis.pipeline() as pipe:
        for number in range(300):
            pipe.xadd(stream, {"transition": "{}"}, id=f"{old + number}-0")
        await pipe.execute()
    await parts.redis.hset(keys.AUDITED, "0", f"{old + 250}-0")
    await trim(parts)
    assert await parts.redis.xlen(stream) == 300  # the webhooks' side has read nothing
    await parts.redis.hset(box.GATHERED, stream, f"{old + 299}-0")
    await trim(parts)
    left = cast("Rows", await parts.redis.xrange(stream))
    assert left[0][0] <= f"{old + 250}-0".encode()
    assert len(left) <= 200


async def test_a_message_of_another_version_is_passed_over_and_counted(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    telling = tells({"ops": {"url": receiver.url}})
    await telling.tell()
    await parts.redis.xadd(box.OUTBOX, {"message": b'{"id":"1","type":"connectors.of_tomorrow"}'})
    await turn(parts, Reason.SLOW)
    await telling.tell()
    assert [event["type"] for event in receiver.events] == ["connectors.transition"]
    assert await lost(parts) == 1


async def test_a_transition_in_the_words_of_another_version_holds_up_no_other(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    telling = tells({"ops": {"url": receiver.url}})
    await turn(parts, Reason.OK)
    await telling.tell()
    event = {"connector": "github", "tenant": "acme", "from": None, "to": ["unhealthy", "of_tomorrow"]}
    strange = json.dumps(event | {"fault": "vendor", "at_ms": 1, "version": 1})
    await parts.redis.xadd(keys.events(keys.shard_of("acme", parts.settings.shards)), {"transition": strange})
    await parts.redis.xadd(keys.INCIDENT_LOG, {"event": "opened", "incident": "{}"})
    await parts.redis.hset(box.PAIRS, "github:acme", '{"told":["unhealthy","of_tomorrow"]}')
    await turn(parts, Reason.SLOW)
    await telling.tell()
    assert [event["type"] for event in receiver.events] == ["connectors.transition"]
    assert await lost(parts) == 2


async def test_an_address_that_cannot_be_looked_up_is_an_attempt_like_any_other(parts: Parts, tells: Tells) -> None:
    telling = tells({"ops": {"url": f"http://{'a' * 70}.example/hook"}})
    await telling.tell()
    await turn(parts, Reason.SLOW)
    await telling.tell()
    assert (await standings(parts))[0].attempts == 1


async def test_a_pause_of_a_time_that_was_taken_back_is_over(parts: Parts, receiver: Receiver, tells: Tells) -> None:
    receiver.statuses = [500]
    telling = tells({"ops": {"url": receiver.url}})
    await telling.tell()
    await turn(parts, Reason.SLOW)
    await telling.tell()
    await parts.redis.hset(box.attempts("ops"), "next_ms", str(parts.clock.now_ms() + 3_600_000))
    await telling.tell()
    assert len(receiver.got) == 2


async def test_messages_that_were_cut_off_untold_are_counted_once(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    telling = tells({"ops": {"url": receiver.url}})
    await telling.tell()
    for tenant in ("acme", "bolt"):
        await turn(parts, Reason.SLOW, tenant)
        await telling.tell()
    receiver.statuses = [500, 500]
    for tenant in ("coal", "dune"):
        await turn(parts, Reason.SLOW, tenant)
        await telling.tell()
    await parts.redis.xtrim(box.OUTBOX, maxlen=1, approximate=False)  # as the cap does
    await telling.retry("ops")
    await telling.retry("ops")
    assert json.loads(receiver.got[-1][1])["subject"] == "dune/github"
    assert await lost(parts) == 1


async def test_a_teller_whose_wall_clock_is_wrong_tells_all_the_same(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    """Another process checks; this one has not asked Redis for the time yet."""
    telling = tells({"ops": {"url": receiver.url}})
    await telling.tell()
    await turn(parts, Reason.CREDENTIAL_REJECTED, times=1)
    await turn(parts, Reason.CREDENTIAL_REJECTED, times=2)
    seconds, microseconds = await parts.redis.time()
    parts.clock.calibrate((seconds + 3_600, microseconds), steady())
    await telling.tell()
    assert [event["type"] for event in receiver.events] == ["connectors.transition"]


async def test_a_webhook_that_hangs_does_not_keep_the_tick_waiting(parts: Parts, tells: Tells) -> None:
    arrived, hang = asyncio.Event(), asyncio.Event()

    async def stall(_: web.Request) -> web.Response:
        arrived.set()
        await hang.wait()
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", stall)
    async with TestServer(app) as server:
        telling = tells({"ops": {"url": str(server.make_url("/hook")), "timeout": 60}})
        await telling.tell()
        await turn(parts, Reason.SLOW)
        await telling.gatherer.gather()
        await telling.deliverer.tick()
        await arrived.wait()
        async with asyncio.timeout(30):
            await telling.deliverer.tick()  # returns, though the receiver does not answer
        hang.set()


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        ({"url": "ftp://x.example"}, "ops.url: not an http or https address"),
        ({"url": "https://x.example", "secret": "whsec_c2hvcnQ="}, "ops.secret: shorter than 24 bytes"),
        ({"url": "https://x.example", "secret": "nö"}, "ops.secret: not a key"),
        ({"url": "https://x.example", "form": "fax"}, "ops.form: Input should be 'cloudevents' or 'slack'"),
        ({"url": "https://x.example", "tenants": ["no/such"]}, "ops: "),
        (
            {"url": "https://x.example", "connectors": ["nope"]},
            "ops.connectors: no connector 'nope' is registered; there",
        ),
        ({"url_file": "/nowhere/at/all"}, "ops: url_file /nowhere/at/all cannot be read"),
        ({}, "ops.url: Field required"),
    ],
)
def test_a_webhook_that_cannot_be_used_is_named_with_its_field(
    hook: dict[str, object], says: str, tmp_path: Path
) -> None:
    file = tmp_path / "hooks.yaml"
    file.write_text(yaml.safe_dump({"webhooks": {"ops": hook}}))
    with pytest.raises(InvalidConfig) as error:
        load_webhooks(file, CONNECTORS)
    assert f"WEBHOOKS_FILE {file}: " in str(error.value)
    assert says in str(error.value)


def test_addresses_and_keys_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://hooks.example/T0KEN\n")
    (tmp_path / "key").write_text(f"{SECRET}\n")
    file = tmp_path / "hooks.yaml"
    hook = {"url_file": str(tmp_path / "url"), "secret_file": str(tmp_path / "key")}
    file.write_text(yaml.safe_dump({"webhooks": {"ops": hook}}))
    made = load_webhooks(file, CONNECTORS)["ops"]
    assert made.url.get_secret_value() == "https://hooks.example/T0KEN"
    assert made.key == KEY
    assert "T0KEN" not in repr(made)
    assert SECRET not in repr(made)
    assert Fault.TENANT not in made.faults


async def test_nobody_is_told_of_what_was_announced_but_of_what_is_left_of_it(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    telling = tells({"ops": {"url": receiver.url}})
    await telling.tell()
    now = parts.clock.now_ms()
    window = await parts.maintenance.add(actor="ann", starts_ms=now, ends_ms=now + 3_600_000, connector="github")
    await turn(parts, Reason.SLOW)
    await turn(parts, Reason.VENDOR_ERROR, "globex", times=2)
    await turn(parts, Reason.OK, "globex")
    outage = Incident(IncidentKind.OUTAGE, "github|api.github.com", now, now, 12, "no usable answer")
    await _write(parts, [], [outage])
    await telling.tell()
    assert receiver.got == []
    await parts.maintenance.end(window.id, actor="ann")
    await turn(parts, Reason.SLOW)
    await telling.retry("ops")
    assert [event["subject"] for event in receiver.events] == ["acme/github"]


@pytest.mark.parametrize("verdict", ["void", "expired"])
async def test_that_a_pair_was_removed_is_told_though_it_has_no_verdict_just_then(
    parts: Parts, receiver: Receiver, tells: Tells, verdict: str
) -> None:
    telling, pair = tells({"ops": {"url": receiver.url}}), Pair("github", "acme")
    await telling.tell()
    await turn(parts, Reason.SLOW)
    await telling.tell()
    if verdict == "void":
        await parts.schedule.put(pair, 2, CONFIG, reset=True)
    else:
        await parts.redis.delete(keys.verdict(parts.schedule.shard(pair), pair))
    await parts.schedule.remove(pair, 3)
    await telling.tell()
    reasons = [event["data"]["to"]["reason"] for event in cast("list[dict[str, Any]]", receiver.events)]
    assert reasons == ["slow", "not_configured"]
    assert await parts.redis.hgetall(box.PAIRS) == {}, "nothing is remembered of who is gone"


async def test_many_in_maintenance_keep_nobody_else_waiting(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.events.gather.LOOKED_AT", 2)
    gatherer, now = Gatherer(parts, RULES, ["ops"]), parts.clock.now_ms()
    await gatherer.gather()
    for tenant in ("t0", "t1"):
        flaps = Turn("s0-1-0", "github", tenant, Status.DEGRADED, Reason.SLOW, Fault.VENDOR, 1)
        state = Remembered(flapping=True, turned_ms=(1,), waiting=flaps)
        await parts.redis.hset(box.PAIRS, f"github:{tenant}", msgspec.json.encode(state).decode())
        await parts.redis.zadd(box.OPEN, {f"github:{tenant}": 1})
        await parts.maintenance.add(actor="ann", starts_ms=now, ends_ms=now + 3_600_000, tenant=tenant)
    await turn(parts, Reason.CREDENTIAL_REJECTED)
    await gatherer.gather()
    await turn(parts, Reason.CREDENTIAL_REJECTED)
    await parts.redis.zadd(box.OPEN, {"github:acme": parts.clock.now_ms()})  # its second is over
    await gatherer.gather()
    told = [json.loads(fields[b"message"]) for _, fields in cast("Rows", await parts.redis.xrange(box.OUTBOX))]
    assert [message["tenant"] for message in told if message["type"] == "connectors.transition"] == ["acme"]


async def test_the_metrics_tell_who_is_behind_and_what_was_given_up(
    parts: Parts, receiver: Receiver, tells: Tells
) -> None:
    receiver.statuses = [400]
    telling = tells({"ops": {"url": receiver.url}})
    await telling.tell()
    await turn(parts, Reason.SLOW)
    await telling.tell()
    families = {family.name: family.samples for family in platform_families(await platform_snapshot(parts))}
    (behind,) = families["registry_webhook_behind_seconds"]
    assert behind.labels == {"webhook": "ops"}
    assert behind.value > 0
    counts = {sample.labels["outcome"]: sample.value for sample in families["registry_webhook_messages"]}
    assert counts == {"delivered": 1, "failed": 1, "dead": 0}  # that telling begins was taken
    await telling.retry("ops")
    families = {family.name: family.samples for family in platform_families(await platform_snapshot(parts))}
    assert families["registry_webhook_behind_seconds"][0].value == 0
