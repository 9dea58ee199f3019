"""The promises to webhooks speak: real messages over real HTTP, of which each test drops, adds or misleads one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry import keys
from registry.bootstrap import Parts
from registry.health import Reason
from registry.ids import Pair
from tests.chaos.promises import EveryPromisedMessageArrives, NoMessageIsAstray
from tests.chaos.receiver import ADDRESSES, Receiver
from tests.chaos.told import CONFIG, PAIR, STRANGER, Told
from worker.events.deliver import Deliverer
from worker.events.gather import Gatherer
from worker.events.message import Message, MessageType
from worker.events.telling import Rules
from worker.events.webhooks import load_webhooks

OK, EXPIRING, REJECTED = Reason.OK, Reason.CREDENTIAL_EXPIRING, Reason.CREDENTIAL_REJECTED


@pytest.fixture
async def told(parts: Parts, tmp_path: Path) -> AsyncIterator[Told]:
    receiver = Receiver()
    webhooks = load_webhooks(receiver.write(tmp_path), parts.catalog.list())
    deliverer = Deliverer(parts, webhooks, source="/chaos", owner="one")
    made = Told(parts, receiver, Gatherer(parts, Rules(flaps=6, vendor_ms=0), webhooks), deliverer)
    for pair in (PAIR, STRANGER):
        await parts.schedule.put(pair, 1, CONFIG, reset=False)
    for shard in range(parts.settings.shards):
        await parts.redis.set(keys.epoch(shard), 1)
    await made.gathers()
    await made.delivers()
    assert [each.kind for each in receiver.messages] == ["begun"] * len(ADDRESSES)
    receiver.messages.clear()
    yield made
    await deliverer.aclose()
    receiver.close()
    if made.watch is not None:
        made.watch.close()


def promise() -> EveryPromisedMessageArrives:
    return EveryPromisedMessageArrives(ADDRESSES, 0.2)


def looked_at_for_long(told: Told) -> set[str]:
    """What is told of a state that lasts longer than a promise."""
    since, found = time.monotonic(), set[str]()
    while time.monotonic() < since + 0.5:
        found.update(told.looks())
    return found


async def test_nothing_is_told_of_what_was_told_as_promised(told: Told) -> None:
    told.watch_for(NoMessageIsAstray(ADDRESSES))
    await told.tells(OK, EXPIRING, OK, REJECTED, REJECTED, OK)
    assert [each.after for each in told.receiver.messages if each.address == "everybody"] == [
        ("degraded", "credential_expiring"),
        ("healthy", "ok"),
        ("unhealthy", "credential_rejected"),
        ("healthy", "ok"),
    ]
    assert {each.address for each in told.receiver.messages} == {"everybody", "one-tenant"}
    assert told.looks() == []


@pytest.mark.parametrize("end", [OK, EXPIRING, REJECTED])
async def test_nothing_is_told_of_what_arrived(told: Told, end: Reason) -> None:
    told.watch_for(promise())
    await told.tells(OK, EXPIRING, OK, REJECTED, REJECTED, OK, end, end)
    assert looked_at_for_long(told) == set()


async def test_nothing_is_told_of_a_rejection_that_was_not_confirmed(told: Told) -> None:
    told.watch_for(promise())
    await told.tells(OK, REJECTED, OK)
    assert looked_at_for_long(told) == set()


async def test_a_turn_that_is_never_told_though_it_is_over(told: Told) -> None:
    told.watch_for(promise())
    await told.tells(OK, EXPIRING)
    await told.turns(OK, EXPIRING)
    await told.gathers()
    await told.loses()
    await told.loses()
    await told.delivers()
    assert looked_at_for_long(told) == {
        f"{address} was never told that slack:acme-01 had turned to {outcome}"
        for address in ("everybody", "one-tenant")
        for outcome in ("healthy/ok", "degraded/credential_expiring")
    }


async def test_a_confirmed_rejection_that_is_never_told(told: Told) -> None:
    told.watch_for(promise())
    await told.tells(OK)
    await told.turns(REJECTED, REJECTED)
    await told.gathers()
    await told.loses()
    await told.delivers()
    assert "one-tenant was told last that slack:acme-01 is healthy/ok, but it is unhealthy" in told.until_told()[1]


async def test_what_a_fault_delays_is_late_when_it_is_over(told: Told) -> None:
    told.watch_for(promise())
    await told.tells(OK)
    assert told.watch is not None
    told.watch.trouble()
    await told.turns(EXPIRING)
    assert looked_at_for_long(told) == set()
    told.watch.calm()
    assert "everybody was never told" in told.until_told()[0]


async def test_a_pair_that_flaps_is_promised_nothing_until_it_settles(told: Told) -> None:
    told.watch_for(promise())
    await told.tells(OK, *[EXPIRING, OK] * 4)
    assert [each.kind for each in told.receiver.messages][-1] == "flapping"
    assert looked_at_for_long(told) == set()


async def forgets(told: Told) -> None:
    """Redis loses its data; the pair is configured anew."""
    await told.parts.redis.flushdb()
    for shard in range(told.parts.settings.shards):
        await told.parts.redis.set(keys.epoch(shard), 2)
    await told.parts.schedule.put(PAIR, 1, CONFIG, reset=False)


async def test_a_lost_memory_of_redis_excuses_whoever_says_so(told: Told) -> None:
    told.watch_for(promise())
    await told.tells(OK, EXPIRING)
    assert told.looks() == []
    await forgets(told)
    await told.gathers()
    await told.delivers()
    await told.turns(OK)
    assert looked_at_for_long(told) == set()


async def test_a_lost_memory_of_redis_that_nobody_is_told_of(told: Told) -> None:
    told.watch_for(promise())
    await told.tells(OK, EXPIRING)
    assert told.looks() == []
    await forgets(told)
    await told.gathers()
    await told.loses()
    await told.delivers()
    await told.turns(OK)
    last = "slack:acme-01 is degraded/credential_expiring, but it is healthy/ok"
    assert told.until_told()[0].endswith(f"was told last that {last}")


async def test_transitions_that_are_told_to_be_lost_are_excused(told: Told) -> None:
    told.watch_for(promise())
    await told.tells(OK)
    await told.turns(EXPIRING)
    assert told.looks() == []
    stream = keys.events(told.parts.schedule.shard(PAIR))
    await told.parts.redis.xtrim(stream, maxlen=0, approximate=False)
    await told.turns(OK)
    await told.gathers()
    await told.delivers()
    assert {each.address for each in told.receiver.messages if each.kind == "lost"} == set(ADDRESSES)
    assert looked_at_for_long(told) == set()


@pytest.mark.parametrize(("address", "pair"), [("one-tenant", STRANGER), ("one-vendor", PAIR)])
async def test_news_at_somebody_elses_address(told: Told, address: str, pair: Pair) -> None:
    told.watch_for(NoMessageIsAstray(ADDRESSES))
    await told.turns(EXPIRING, pair=pair)
    await told.send(address, pair=pair)
    assert told.looks() == [f"{address} was told of {pair}, which is none of its business"]


async def test_news_that_name_somebody_else(told: Told) -> None:
    told.watch_for(NoMessageIsAstray(ADDRESSES))
    await told.turns(EXPIRING)
    await told.send("everybody", text="as acme-02 has it")
    assert told.looks() == ["everybody: a message about slack:acme-01 names acme-02"]


async def test_news_that_come_after_what_followed_them(told: Told) -> None:
    told.watch_for(NoMessageIsAstray(ADDRESSES))
    await told.turns(EXPIRING, OK)
    await told.send("everybody", text="late")
    await told.send("everybody", text="early", turn=0)
    late = "that slack:acme-01 had turned to degraded/credential_expiring was told after what followed it"
    assert told.looks() == [f"everybody: {late}"]


async def test_news_that_come_again_are_not_new(told: Told) -> None:
    """Even when something newer came in between: `id` says so."""
    told.watch_for(NoMessageIsAstray(ADDRESSES))
    await told.turns(EXPIRING, OK)
    await told.send("everybody", text="early", turn=0)
    await told.send("everybody", text="late")
    await told.send("everybody", text="early", turn=0)
    assert told.looks() == []


async def test_news_of_what_never_was(told: Told) -> None:
    told.watch_for(NoMessageIsAstray(ADDRESSES))
    await told.turns(EXPIRING)
    told.turned[PAIR] = [(1, ("healthy", "ok"))]
    await told.send("everybody")
    assert told.looks() == ["everybody was told that slack:acme-01 had turned to healthy/ok, which it never did"]


async def test_who_sends_without_the_key_reaches_nobody(told: Told, tmp_path: Path) -> None:
    webhooks = load_webhooks(told.receiver.write(tmp_path), told.parts.catalog.list())
    webhooks = {name: webhook.model_copy(update={"secret": None}) for name, webhook in webhooks.items()}
    sender = Deliverer(told.parts, webhooks, source="/chaos", owner="two")
    message = Message("x", MessageType.TEST, 1, "news", {})
    assert (await sender.send_now("everybody", message)).told == "HTTP 401"
    await sender.aclose()
    assert told.receiver.messages == []
