"""How each webhook stands: what waits for it, what it took, what it never took."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import cast

import msgspec

from registry import keys
from registry.bootstrap import Parts
from registry.health import rfc3339
from worker.events import box
from worker.events.message import Message

ASKED_MS = 300_000
"""A webhook that no process wanted to send to for so long stands nowhere: it was taken out of the file."""

_Rows = list[tuple[bytes, dict[bytes, bytes]]]


@dataclass(frozen=True, slots=True)
class Standing:
    """One webhook.

    `oldest_ms` is when the oldest message that it is not done with was put in the outbox, None when there is none.
    `attempts` were made at that message; the following one comes at `next_ms`. Times are Unix milliseconds.
    """

    webhook: str
    oldest_ms: int | None = None
    delivered: int = 0
    failed: int = 0
    dead: int = 0
    attempts: int = 0
    next_ms: int | None = None

    def as_dict(self) -> dict[str, object]:
        """The public form, with RFC 3339 times."""
        row = asdict(self)
        times = {"oldest": rfc3339(row.pop("oldest_ms")), "next_attempt": rfc3339(row.pop("next_ms"))}
        return row | times


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that could not be delivered, and what the last attempt came to."""

    position: str
    message: Message
    told: str


async def standings(parts: Parts, webhooks: Iterable[str] | None = None) -> list[Standing]:
    """How the named webhooks stand, or all that are sent to; a few round trips, however many they are."""
    if webhooks is None:
        kept = [name.decode() for name in cast("list[bytes]", await parts.redis.hkeys(box.SENT))]
        webhooks = [name for name, ago_ms in (await asked_ago(parts, kept)).items() if ago_ms < ASKED_MS]
    names = sorted(webhooks)
    async with parts.redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(box.SENT)
        pipe.hgetall(box.COUNTS)
        for name in names:
            pipe.hgetall(box.attempts(name))
        sent, counts, *tries = cast("list[dict[bytes, bytes]]", await pipe.execute())
    async with parts.redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.xrange(box.OUTBOX, f"({sent.get(name.encode(), b'0').decode()}", count=1)
        waiting = cast("list[_Rows]", await pipe.execute()) if names else []
    return [
        Standing(
            name,
            int(rows[0][0].partition(b"-")[0]) if rows else None,
            **{kind: int(counts.get(f"{kind}|{name}".encode(), 0)) for kind in ("delivered", "failed", "dead")},
            attempts=int(tried.get(b"attempts", 0)),
            next_ms=int(tried[b"next_ms"]) if tried else None,
        )
        for name, rows, tried in zip(names, waiting, tries, strict=True)
    ]


async def asked_ago(parts: Parts, webhooks: Collection[str]) -> dict[str, int]:
    """Milliseconds since any process wanted to send to each, be it one with a newer file than this one's."""
    async with parts.redis.pipeline(transaction=False) as pipe:
        for name in webhooks:
            pipe.hget(keys.lease(f"webhook:{name}"), "at")
        asked = cast("list[bytes | None]", await pipe.execute())
    now_ms = parts.clock.now_ms()
    return {name: abs(now_ms - int(at_ms or 0)) for name, at_ms in zip(webhooks, asked, strict=True)}


async def lost(parts: Parts) -> int:
    """How often transitions or messages were cut off, or could not be read, before they were told."""
    return int(cast("bytes | None", await parts.redis.hget(box.COUNTS, "lost")) or 0)


async def letters(parts: Parts, webhook: str, most: int) -> list[Letter]:
    """The oldest `most` dead letters of a webhook."""
    rows = cast("_Rows", await parts.redis.xrange(box.dead(webhook), count=most))
    return [
        Letter(entry.decode(), msgspec.json.decode(fields[b"message"], type=Message), fields[b"told"].decode())
        for entry, fields in rows
    ]


async def replay(parts: Parts, webhook: str) -> int:
    """Put a webhook's dead letters into the outbox again, for it alone, behind what waits; returns how many."""
    many = 0
    while found := await letters(parts, webhook, 100):
        async with parts.redis.pipeline(transaction=True) as pipe:
            for letter in found:
                again = msgspec.structs.replace(letter.message, only=webhook)
                pipe.xadd(box.OUTBOX, {"message": msgspec.json.encode(again)}, maxlen=box.CAP, approximate=True)
                pipe.xdel(box.dead(webhook), letter.position)
            await pipe.execute()
        many += len(found)
    return many
