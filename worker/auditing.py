"""Copies the transitions of verdicts into the audit log, in their order; at least once each, told apart by their id.

What cannot be copied leaves a record that says so, and is counted: transitions that were cut off their stream while the
log was away, and those in another version's words.
"""

from __future__ import annotations

import json
from typing import Any, cast

import structlog

from registry import keys
from registry.audit import Action, Entry
from registry.bootstrap import Parts
from registry.errors import StoreUnavailable
from worker.events import box

log = structlog.get_logger(__name__)

AT_MOST = 1_000
"""Transitions of one shard that one look copies; the rest waits for the next."""

_Event = tuple[bytes, dict[bytes, bytes]]


async def audit_transitions(parts: Parts) -> int:
    """Copy what happened since the last look; returns how many. What the log cannot take is copied at the next one."""
    cursors = cast("dict[bytes, bytes]", await parts.redis.hgetall(keys.AUDITED))
    copied = 0
    for shard in range(parts.settings.shards):
        after = cursors.get(str(shard).encode(), b"0").decode()
        cut, found = await _read(parts, shard, after)
        entries = [_entry(parts, shard, id_, fields[b"transition"]) for id_, fields in found if b"transition" in fields]
        if cut:
            log.warning("transitions_lost", shard=shard, after=after)
            entries.insert(0, _gap(parts, after=f"{shard}:{after}"))
        lost = sum(entry.action is Action.RECORDS_LOST for entry in entries)
        try:
            await parts.audit.extend(entries)
        except StoreUnavailable as error:
            log.warning("audit_behind", shard=shard, waiting=len(entries), error=str(error))
            break
        if lost:
            await parts.redis.hincrby(box.COUNTS, "lost", lost)
        if found or cut:
            await parts.redis.hset(keys.AUDITED, str(shard), found[-1][0] if found else b"0")
        copied += len(entries) - lost
    return copied


async def _read(parts: Parts, shard: int, after: str) -> tuple[bool, list[_Event]]:
    """Was the stream cut behind its reader, and what follows. The last entry that was read stays there otherwise."""
    stream = keys.events(shard)
    async with parts.redis.pipeline(transaction=True) as pipe:
        pipe.xrange(stream, after, after)
        pipe.xrange(stream, f"({after}", count=AT_MOST)
        here, found = cast("list[list[_Event]]", await pipe.execute())
    return after != "0" and not here, found


def _gap(parts: Parts, **where: str) -> Entry:
    return Entry(Action.RECORDS_LOST, parts.audit.actor, parts.clock.now_ms(), detail={**where})


def _entry(parts: Parts, shard: int, id_: bytes, wire: bytes) -> Entry:
    try:
        return _transition(f"{shard}:{id_.decode()}", json.loads(wire))
    except (ValueError, LookupError, TypeError) as error:
        log.exception("event_unreadable", shard=shard, entry=id_.decode(), error=type(error).__name__)
        return _gap(parts, event=f"{shard}:{id_.decode()}")


def _transition(id_: str, event: dict[str, Any]) -> Entry:
    before = "/".join(event["from"]) if event["from"] else "nothing"
    return Entry(
        Action.TRANSITION,
        "checks",
        event["at_ms"],
        event["tenant"],
        event["connector"],
        detail={
            "from": before,
            "to": "/".join(event["to"]),
            "fault": event["fault"],
            "event": id_,
        },
    )
