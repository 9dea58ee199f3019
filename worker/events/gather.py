"""From the streams of transitions and incidents into the outbox, each entry exactly once.

The new messages, what is remembered of the pairs, and how far each stream was read are written in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import msgspec
import structlog
from redis.typing import EncodableT

from registry import keys
from registry.bootstrap import Parts
from registry.clock import steady
from registry.health import Fault, HealthStatus, Reason, Status
from registry.ids import SYSTEM, Pair
from registry.incidents import Incident, open_incidents
from registry.maintenance import MaintenanceBoard, Window, until
from registry.record import decode, seen
from worker.events import box
from worker.events.message import Message, MessageType
from worker.events.telling import IDLE, Rules, Telling, Told, Turn, public, settled, turned

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
    turns: list[Turn] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    lost: int = 0


async def gather(parts: Parts, rules: Rules, fenced: Fenced | None = None) -> int:
    """Put what is worth telling into the outbox; returns the number of messages.

    `fenced` begins the transaction that writes, so that nothing is written when somebody else has gathered meanwhile.
    The first look ever only remembers where the streams end: nobody wants to hear of everything at once.
    """
    asked = steady()
    parts.clock.calibrate(await parts.redis.time(), asked)
    now = parts.clock.now_ms()
    news = await _read(parts)
    waiting = cast(
        "list[bytes]", await parts.redis.zrange(box.OPEN, "-inf", str(now), byscore=True, offset=0, num=LOOKED_AT)
    )
    turned_pairs = [turn.pair for turn in news.turns]
    pairs = list(dict.fromkeys([*turned_pairs, *(Pair.parse(name.decode()) for name in waiting)]))
    states = await _remembered(parts, pairs)
    windows = await MaintenanceBoard(parts.redis).current()
    muted = {pair for pair in pairs if until(pair, windows, now)}
    told: list[tuple[Pair, Told]] = []
    for pair, turn in zip(turned_pairs, news.turns, strict=True):
        states[pair], more = turned(states[pair], turn, rules, muted=pair in muted)
        told += [(pair, what) for what in more]
    statuses = await _statuses(parts, {pair for pair, _ in told} | {p for p in pairs if states[p].waiting})
    for pair in pairs:
        states[pair], more = settled(states[pair], statuses.get(pair), now, rules, muted=pair in muted)
        told += [(pair, what) for what in more]
    incidents = await open_incidents(parts.redis) if told else ()
    news.messages = [message for message in news.messages if not _announced(message, windows, now)]
    news.messages += [_message(what, statuses.get(pair), incidents) for pair, what in told]
    await _write(parts, news, states, now, rules, fenced)
    return len(news.messages)


async def _read(parts: Parts) -> _News:
    """What is new in every stream."""
    streams = [*map(keys.events, range(parts.settings.shards)), keys.INCIDENT_LOG]
    read = cast("dict[bytes, bytes]", await parts.redis.hgetall(box.GATHERED))
    news = _News({stream.decode(): position.decode() for stream, position in read.items()})
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
    return news


def _follow(stream: str, news: _News, last: _Rows, here: _Rows, rows: _Rows, now_ms: int) -> None:
    after, end = news.positions.get(stream), last[0][0].decode() if last else "0"
    if after is None:
        news.positions[stream] = end
        return
    if not here and after != "0":
        news.lost += 1
        news.messages.append(_lost(stream, after, now_ms))
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
        news.messages.append(_incident(entry, fields))


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


async def _write(
    parts: Parts, news: _News, states: Mapping[Pair, Telling], now_ms: int, rules: Rules, fenced: Fenced | None
) -> None:
    async with parts.redis.pipeline(transaction=True) as pipe:
        if fenced:
            await fenced(pipe)
        for message in news.messages:
            pipe.xadd(box.OUTBOX, {"message": msgspec.json.encode(message)}, maxlen=box.CAP, approximate=True)
        for pair, state in states.items():
            if state.idle:
                pipe.hdel(box.PAIRS, str(pair))
            else:
                pipe.hset(box.PAIRS, str(pair), msgspec.json.encode(state).decode())
            look = state.look_ms(now_ms, rules)
            if look is None:
                pipe.zrem(box.OPEN, str(pair))
            else:
                pipe.zadd(box.OPEN, {str(pair): look})
        pipe.hset(box.GATHERED, mapping=cast("dict[EncodableT, EncodableT]", news.positions))
        if news.lost:
            pipe.hincrby(box.COUNTS, "lost", news.lost)
        await pipe.execute()


def _turn(stream: str, entry: bytes, wire: bytes) -> Turn:
    event = json.loads(wire)
    (status, reason), fault = event["to"], Fault(event["fault"])
    where = f"{stream.rpartition('{')[2].partition('}')[0]}-{entry.decode()}"
    return Turn(where, event["connector"], event["tenant"], Status(status), Reason(reason), fault, event["at_ms"])


def _message(told: Told, now: HealthStatus | None, incidents: Iterable[Incident]) -> Message:
    kind, turn, before = told
    data = public(turn, before, now)
    cause = next((i for i in incidents if i.kind.fault is turn.fault and _touches(i, turn.connector)), None)
    if cause is not None:
        data["incident"] = cause.id
    text = f"{turn.tenant} {turn.connector}: {turn.status.value}, {turn.reason.value}. {data['action']}".rstrip()
    if kind is MessageType.FLAPPING:
        text = f"{turn.tenant} {turn.connector} turns again and again; nothing more is told until it settles."
    return Message(
        f"{turn.event}-{kind.name.lower()}",
        kind,
        turn.at_ms,
        text,
        data,
        turn.connector,
        turn.tenant,
        turn.fault,
        explained=cause is not None,
    )


def _announced(message: Message, windows: Sequence[Window], now_ms: int) -> bool:
    """Is this an incident of a connector that is in maintenance for everybody?"""
    return message.connector is not None and until(Pair(message.connector, SYSTEM), windows, now_ms) > 0


def _touches(incident: Incident, connector: str) -> bool:
    return incident.endpoint.partition("|")[0] in (connector, "*")


def _incident(entry: bytes, fields: Mapping[bytes, bytes]) -> Message:
    public_form: dict[str, Any] = json.loads(fields[b"incident"])
    opened = fields[b"event"] == b"opened"
    kind = MessageType.INCIDENT_OPENED if opened else MessageType.INCIDENT_CLOSED
    what = "Incident" if opened else "Over"
    text = f"{what}: {public_form['kind']} of {public_form['connector']}: {public_form['explanation']}"
    connector = None if public_form["connector"] == "*" else public_form["connector"]
    moment = int(entry.partition(b"-")[0])
    return Message(
        f"incident-{entry.decode()}", kind, moment, text, public_form, connector, None, Fault(public_form["fault"])
    )


def _lost(stream: str, after: str, now_ms: int) -> Message:
    text = "Transitions were lost before they could be told: read the statuses anew."
    return Message(f"lost-{stream.rpartition('{')[2]}-{after}", MessageType.LOST, now_ms, text, {"after": after})
