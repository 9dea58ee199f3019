"""From the streams of transitions and incidents into the outbox, each entry exactly once.

The new messages, what is remembered of the pairs, and how far each stream was read are written in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import msgspec
import structlog
from redis.typing import EncodableT

from registry import keys
from registry.bootstrap import Parts
from registry.clock import steady
from registry.health import Fault, HealthStatus, Reason, Status
from registry.ids import SYSTEM, Pair
from registry.incidents import open_incidents
from registry.maintenance import MaintenanceBoard, Window, until
from registry.record import CLOCK_SLACK_MS, decode, seen
from worker.events import box, wording
from worker.events.message import Message
from worker.events.retention import order
from worker.events.telling import IDLE, Rules, Telling, Told, Turn, settled, turned

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline

log = structlog.get_logger(__name__)

Fenced = Callable[["Pipeline"], Awaitable[None]]
"""Begins a transaction that fails once somebody else has the lease, as `registry.lease.Lease.fenced` does."""

AT_MOST = 500
"""Entries of one stream that one look takes; the rest waits for the next."""

LOOKED_AT = 1_000
"""Pairs that one look follows though they have not turned."""

_Rows = list[tuple[bytes, Mapping[bytes, bytes]]]


@dataclass(slots=True)
class _News:
    """What the streams brought, and how far they are read with it."""

    positions: dict[str, str]
    mark: bytes
    turns: list[Turn] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    lost: int = 0
    begins: bool = False


class Gatherer:
    """Puts what is worth telling into the outbox.

    Args:
        webhooks: the names of those who are told.
    """

    def __init__(self, parts: Parts, rules: Rules, webhooks: Collection[str]) -> None:
        self._parts, self._rules, self._webhooks = parts, rules, webhooks
        self._reached: Mapping[str, str] = {}
        self._marks = {b""}

    async def gather(self, fenced: Fenced | None = None) -> int:
        """One look; returns the number of messages.

        `fenced` begins the transaction that writes, so that nothing is written when somebody else has gathered
        meanwhile. The first look ever only remembers where the streams end, and tells all webhooks that it has begun:
        nobody wants to hear of everything at once. A Redis that came back without its data has it begin anew; one that
        came back with older data is noticed where this process has looked before.
        """
        parts, rules = self._parts, self._rules
        asked = steady()
        parts.clock.calibrate(await parts.redis.time(), asked)
        now = parts.clock.now_ms()
        news = await self._read()
        waiting = await self._waiting(now)
        turned_pairs = [turn.pair for turn in news.turns]
        pairs = list(dict.fromkeys([*turned_pairs, *(Pair.parse(name.decode()) for name in waiting)]))
        states = await _remembered(parts, pairs)
        windows = await MaintenanceBoard(parts.redis).current()
        muted = {pair: end for pair in pairs if (end := until(pair, windows, now))}
        told: list[tuple[Pair, Told]] = []
        for pair, turn in zip(turned_pairs, news.turns, strict=True):
            states[pair], more = turned(states[pair], turn, rules, muted=pair in muted)
            told += [(pair, what) for what in more]
        statuses = await _statuses(parts, {pair for pair, _ in told} | {p for p in pairs if states[p].waiting})
        for pair in pairs:
            states[pair], more = settled(states[pair], statuses.get(pair), now, rules, muted=pair in muted)
            told += [(pair, what) for what in more]
        incidents = await open_incidents(parts.redis) if told else ()
        endpoints = await self._endpoints([pair for pair, _ in told]) if incidents else {}
        news.messages = [message for message in news.messages if not _announced(message, windows, now)]
        news.messages += [
            wording.news(what, statuses.get(pair), incidents, endpoints.get(pair, "")) for pair, what in told
        ]
        await self._write(news, states, muted, now, fenced)
        self._reached = news.positions
        self._marks.add(news.mark)
        return len(news.messages)

    async def _endpoints(self, pairs: Sequence[Pair]) -> dict[Pair, str]:
        """Where these pairs are checked; an incident elsewhere is none of theirs."""
        found = await self._parts.schedule.get(pairs)
        return {scheduled.pair: self._parts.checker.endpoint(scheduled) for scheduled in found if scheduled}

    async def _waiting(self, now: int) -> list[bytes]:
        """The pairs to look at though they have not turned. What waits longer than anything is of a clock set back."""
        never = now + self._rules.longest_ms + CLOCK_SLACK_MS
        async with self._parts.redis.pipeline(transaction=False) as pipe:
            pipe.zrange(box.OPEN, "-inf", str(now), byscore=True, offset=0, num=LOOKED_AT)
            pipe.zrange(box.OPEN, str(never), "+inf", byscore=True, offset=0, num=LOOKED_AT)
            due, astray = cast("list[list[bytes]]", await pipe.execute())
        return due + astray

    async def _read(self) -> _News:
        """What is new in every stream."""
        parts = self._parts
        streams = [*map(keys.events, range(parts.settings.shards)), keys.INCIDENT_LOG]
        read = cast("dict[bytes, bytes]", await parts.redis.hgetall(box.GATHERED))
        mark = cast("bytes | None", await parts.redis.get(box.MARK)) or b""
        news = _News({stream.decode(): position.decode() for stream, position in read.items()}, mark)
        async with parts.redis.pipeline(transaction=False) as pipe:
            for stream in streams:
                after = news.positions.get(stream)
                pipe.xrevrange(stream, count=1)
                pipe.xrange(stream, after or "-", after or "-")
                pipe.xrange(stream, f"({after or 0}", count=AT_MOST)
            answers = cast("list[_Rows]", await pipe.execute())
        for i, stream in enumerate(streams):
            last, here, rows = answers[3 * i : 3 * i + 3]
            _follow(stream, news, last, here, rows, parts.clock.now_ms())
        if not read:
            news.begins, news.mark = True, uuid4().hex.encode()
            news.messages.append(wording.begun(parts.clock.now_ms()))
        elif mark in self._marks and _set_back(read, self._reached):
            news.mark = uuid4().hex.encode()
            news.lost += 1
            news.messages.append(wording.set_back(parts.clock.now_ms()))
            log.warning("transitions_lost", set_back=True)
        return news

    async def _write(
        self, news: _News, states: Mapping[Pair, Telling], muted: Mapping[Pair, int], now_ms: int, fenced: Fenced | None
    ) -> None:
        async with self._parts.redis.pipeline(transaction=True) as pipe:
            if fenced:
                await fenced(pipe)
            for name in self._webhooks if news.begins else ():
                pipe.hsetnx(box.SENT, name, box.BEGINNING)
            for message in news.messages:
                pipe.xadd(box.OUTBOX, {"message": msgspec.json.encode(message)}, maxlen=box.CAP, approximate=True)
            for pair, state in states.items():
                if state.idle:
                    pipe.hdel(box.PAIRS, str(pair))
                else:
                    pipe.hset(box.PAIRS, str(pair), msgspec.json.encode(state).decode())
                look = state.look_ms(now_ms, self._rules, muted.get(pair, 0))
                if look is None:
                    pipe.zrem(box.OPEN, str(pair))
                else:
                    pipe.zadd(box.OPEN, {str(pair): look})
            pipe.hset(box.GATHERED, mapping=cast("dict[EncodableT, EncodableT]", news.positions))
            pipe.set(box.MARK, news.mark)
            if news.lost:
                pipe.hincrby(box.COUNTS, "lost", news.lost)
            await pipe.execute()


def _set_back(read: Mapping[bytes, bytes], reached: Mapping[str, str]) -> bool:
    """Does Redis remember less than was `reached` before?"""
    return any(order(read.get(stream.encode(), b"0").decode()) < order(before) for stream, before in reached.items())


def _follow(stream: str, news: _News, last: _Rows, here: _Rows, rows: _Rows, now_ms: int) -> None:
    after, end = news.positions.get(stream), last[0][0].decode() if last else "0"
    if after is None:
        news.positions[stream] = end
        return
    if not here and after != "0":
        news.lost += 1
        news.messages.append(wording.lost(stream, after, now_ms))
        log.warning("transitions_lost", stream=stream, after=after)
        news.positions[stream] = end
        return
    for entry, fields in rows:
        news.positions[stream] = entry.decode()
        try:
            _take(stream, news, entry, fields)
        except (ValueError, LookupError, TypeError) as error:  # another version's words must not hold up all others
            news.lost += 1
            log.exception("event_unreadable", stream=stream, entry=entry.decode(), error=type(error).__name__)


def _take(stream: str, news: _News, entry: bytes, fields: Mapping[bytes, bytes]) -> None:
    if b"transition" in fields:
        turn = _turn(stream, entry, fields[b"transition"])
        if not turn.pair.is_service:  # a vendor's own endpoint is told of by its incident
            news.turns.append(turn)
    elif b"incident" in fields:
        news.messages.append(wording.incident(entry, fields))


async def _remembered(parts: Parts, pairs: Sequence[Pair]) -> dict[Pair, Telling]:
    wires = cast("list[bytes | None]", await parts.redis.hmget(box.PAIRS, list(map(str, pairs)))) if pairs else []
    return {pair: _telling(wire) if wire else IDLE for pair, wire in zip(pairs, wires, strict=True)}


def _telling(wire: bytes) -> Telling:
    """What another version remembered and this one cannot read is forgotten: something may be told twice."""
    try:
        return msgspec.json.decode(wire, type=Telling)
    except msgspec.DecodeError:
        return IDLE


async def _statuses(parts: Parts, pairs: Collection[Pair]) -> dict[Pair, HealthStatus]:
    """The verdicts of `pairs` as they stand, of those that have one."""
    async with parts.redis.pipeline(transaction=False) as pipe:
        for pair in pairs:
            pipe.get(keys.verdict(parts.schedule.shard(pair), pair))
        wires = cast("list[bytes | None]", await pipe.execute())
    now = parts.clock.now_ms()
    return {pair: seen(pair, decode(wire), now) for pair, wire in zip(pairs, wires, strict=True) if wire}


def _turn(stream: str, entry: bytes, wire: bytes) -> Turn:
    event = json.loads(wire)
    (status, reason), fault = event["to"], Fault(event["fault"])
    where = f"{stream.rpartition('{')[2].partition('}')[0]}-{entry.decode()}"
    return Turn(where, event["connector"], event["tenant"], Status(status), Reason(reason), fault, event["at_ms"])


def _announced(message: Message, windows: Sequence[Window], now_ms: int) -> bool:
    """Is this an incident of a connector that is in maintenance for everybody?"""
    return message.connector is not None and until(Pair(message.connector, SYSTEM), windows, now_ms) > 0
