"""Copies the transitions of verdicts into the audit log, in their order; at least once each, told apart by their id."""

from __future__ import annotations

import json
from typing import cast

import structlog

from registry import keys
from registry.audit import Action, Entry
from registry.bootstrap import Parts
from registry.errors import StoreUnavailable

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
        found = cast("list[_Event]", await parts.redis.xrange(keys.events(shard), f"({after}", count=AT_MOST))
        entries = [_entry(shard, id_, fields[b"transition"]) for id_, fields in found if b"transition" in fields]
        try:
            await parts.audit.extend(entries)
        except StoreUnavailable as error:
            log.warning("audit_behind", shard=shard, waiting=len(entries), error=str(error))
            break
        if found:
            await parts.redis.hset(keys.AUDITED, str(shard), found[-1][0])
        copied += len(entries)
    return copied


def _entry(shard: int, id_: bytes, wire: bytes) -> Entry:
    event = json.loads(wire)
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
            "event": f"{shard}:{id_.decode()}",
        },
    )
