"""From the outbox to the webhooks: each in order, at least once, at its own pace.

A message that is not taken is tried again later and later; what is turned down for good, or was tried
`MOST_ATTEMPTS` times, becomes a dead letter, so that it holds nothing up. How far each webhook is stands in Redis:
another process goes on where this one ends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import aiohttp
import msgspec
import structlog
from redis.exceptions import WatchError
from redis.typing import EncodableT

from registry.bootstrap import Parts
from registry.connection import AWAY
from registry.lease import Lease
from worker.events import box
from worker.events.message import Message, cloudevent, slack
from worker.events.retention import order
from worker.events.signing import signed_headers
from worker.events.standing import asked_ago
from worker.events.webhooks import Webhook

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline

log = structlog.get_logger(__name__)

MOST_ATTEMPTS = 12
"""Attempts at one message: with the waits below, about three quarters of an hour."""

LONGEST_WAIT = 600.0
"""Seconds between two attempts, at most."""

REFUSED_ATTEMPTS = 3
"""Attempts at a message that is turned down as such (a 4xx): a receiver may be just being mended."""

GONE_MS = 3_600_000
"""A webhook that no process sends to for so long is not there any more."""

PAGE = 50
"""Messages read at once."""

_Rows = list[tuple[bytes, dict[bytes, bytes]]]
_Turn = tuple[Lease, int]
"""The lease of a webhook, and its fence."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt came to. `wait` is what the receiver asks for, in seconds."""

    delivered: bool
    refused: bool = False
    told: str = ""
    wait: float = 0.0


class Deliverer:
    """Sends the outbox. Belongs to one event loop; `tick` is called again and again and never waits for a receiver.

    Args:
        webhooks: where to send, by name.
        source: the ``source`` of every CloudEvent: which installation speaks.
        jitter: a random number in [0, 1), so that webhooks that failed together do not come back together.
    """

    def __init__(
        self,
        parts: Parts,
        webhooks: Mapping[str, Webhook],
        *,
        source: str,
        owner: str,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._parts, self._webhooks, self._source, self._owner, self._jitter = parts, webhooks, source, owner, jitter
        self._session: aiohttp.ClientSession | None = None
        self._running: dict[str, asyncio.Task[None]] = {}

    async def tick(self) -> None:
        """Begin to send to every webhook that is not being sent to, and forget what all of them have had."""
        for name, webhook in self._webhooks.items():
            if name not in self._running or self._running[name].done():
                self._running[name] = asyncio.create_task(self._send_all(name, webhook), name=f"webhook {name}")
        await self._trim()

    async def send_now(self, name: str, message: Message) -> Attempt:
        """One attempt at one message, of which nothing is noted."""
        return await self._post(self._webhooks[name], message)

    async def drain(self) -> None:
        """Wait until nothing is being sent."""
        await asyncio.gather(*self._running.values())

    async def aclose(self) -> None:
        """Stop sending; what was on its way is sent again later."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send_all(self, name: str, webhook: Webhook) -> None:
        """Send what waits for one webhook, until there is nothing, it fails, or another process does it."""
        try:
            while await self._send_page(name, webhook):
                pass
        except WatchError:
            log.warning("webhook_overtaken", webhook=name)
        except AWAY as error:
            log.warning("outbox_away", webhook=name, error=type(error).__name__)

    async def _send_page(self, name: str, webhook: Webhook) -> bool:
        lease, ttl = Lease(self._parts.redis, f"webhook:{name}", self._owner), webhook.timeout * 2
        fence = await lease.hold(ttl)
        if not fence:
            return False
        turn, passed = (lease, fence), b""
        rows = await self._after(name, await self._position(name), turn)
        for entry, fields in rows:
            message = _read(fields[b"message"])
            ours = message is None or (message.only in (None, name) and webhook.wants(message))
            passed = b"" if ours else entry
            if message is None:
                log.error("message_unreadable", webhook=name, entry=entry.decode())
                await self._lost(name, entry, turn)
            elif ours and (await lease.hold(ttl) != fence or not await self._send(name, webhook, entry, message, turn)):
                return False
        if passed:
            async with self._noting(turn) as pipe:
                pipe.hset(box.SENT, name, passed)
        return bool(rows)

    @asynccontextmanager
    async def _noting(self, turn: _Turn) -> AsyncIterator[Pipeline]:
        """A transaction for what has come of a turn.

        Raises:
            WatchError: this process stood still, and another sends to the webhook; nothing is noted.
        """
        lease, fence = turn
        async with self._parts.redis.pipeline(transaction=True) as pipe:
            await lease.fenced(pipe, fence)
            yield pipe
            await pipe.execute()

    async def _after(self, name: str, position: str, turn: _Turn) -> _Rows:
        """The next messages. Those that the outbox has cut off untold are counted: what is at `position` went first."""
        rows = cast("_Rows", await self._parts.redis.xrange(box.OUTBOX, position, count=PAGE + 1))
        if rows and rows[0][0].decode() == position:
            return rows[1:]
        if rows and position != box.BEGINNING:
            log.error("messages_lost", webhook=name, after=position)
            await self._lost(name, box.BEGINNING, turn)
        return rows

    async def _lost(self, name: str, go_on_after: bytes | str, turn: _Turn) -> None:
        async with self._noting(turn) as pipe:
            pipe.hset(box.SENT, name, go_on_after)
            pipe.delete(box.attempts(name))
            pipe.hincrby(box.COUNTS, "lost", 1)

    async def _position(self, name: str) -> str:
        """Where this webhook goes on; a new one begins with what happens from its first tick on."""
        position = await self._parts.redis.hget(box.SENT, name)
        if position is None:
            last = await self._parts.redis.xrevrange(box.OUTBOX, count=1)
            await self._parts.redis.hsetnx(box.SENT, name, cast("bytes", last[0][0]) if last else box.BEGINNING)
            position = await self._parts.redis.hget(box.SENT, name)  # the gatherer's, where telling has begun meanwhile
        return cast("bytes", position or box.BEGINNING.encode()).decode()

    async def _send(self, name: str, webhook: Webhook, entry: bytes, message: Message, turn: _Turn) -> bool:
        """One attempt at one message; False when it is to be tried again later."""
        redis, now = self._parts.redis, self._parts.clock.now_ms()
        tried = {k: int(v) for k, v in (await redis.hgetall(box.attempts(name))).items()}
        if now < tried.get(b"next_ms", 0) <= now + LONGEST_WAIT * 1000:  # beyond that, the clock was set back
            return False
        attempt = await self._post(webhook, message)
        number = tried.get(b"attempts", 0) + 1
        over = number >= (REFUSED_ATTEMPTS if attempt.refused else MOST_ATTEMPTS)
        async with self._noting(turn) as pipe:
            pipe.hincrby(box.COUNTS, f"{'delivered' if attempt.delivered else 'failed'}|{name}", 1)
            if attempt.delivered or over:
                pipe.hset(box.SENT, name, entry)
                pipe.delete(box.attempts(name))
            else:
                wait = max(attempt.wait, min(LONGEST_WAIT, 2.0**number) * (0.5 + self._jitter() / 2))
                pipe.hset(box.attempts(name), mapping={"attempts": number, "next_ms": now + int(wait * 1000)})
            if over and not attempt.delivered:
                letter: dict[EncodableT, EncodableT] = {"message": msgspec.json.encode(message), "told": attempt.told}
                pipe.xadd(box.dead(name), letter, maxlen=box.DEAD_CAP, approximate=True)
                pipe.hincrby(box.COUNTS, f"dead|{name}", 1)
        if not attempt.delivered:
            log.warning("webhook_failed", webhook=name, message=message.id, attempt=number, told=attempt.told)
        return attempt.delivered or over

    async def _post(self, webhook: Webhook, message: Message) -> Attempt:
        """Send one message. No address, and nothing that the receiver says, is kept: both may hold secrets."""
        as_slack = webhook.form == "slack"
        body = slack(message) if as_slack else cloudevent(message, self._source)
        headers = {
            "content-type": "application/json" if as_slack else "application/cloudevents+json; charset=utf-8",
            **signed_headers(message.id, self._parts.clock.now_ms() // 1000, body, webhook.key),
        }
        if self._session is None:
            self._session = aiohttp.ClientSession()
        timeout = aiohttp.ClientTimeout(total=webhook.timeout)
        try:
            async with self._session.post(
                webhook.url.get_secret_value(), data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return _judged(answer.status, answer.headers.get("retry-after", ""))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:  # ValueError: no such name can be
            return Attempt(delivered=False, told=type(error).__name__)

    async def _trim(self) -> None:
        """Forget messages that every webhook is done with, and webhooks that are not there any more."""
        redis = self._parts.redis
        found = cast("dict[bytes, bytes]", await redis.hgetall(box.SENT))
        sent = {name.decode(): position.decode() for name, position in found.items()}
        others = sent.keys() - self._webhooks.keys()
        for name, ago_ms in (await asked_ago(self._parts, others)).items():
            if ago_ms > GONE_MS:
                del sent[name]
                await redis.hdel(box.SENT, name)
                await redis.delete(box.attempts(name))
        if self._webhooks and all(name in sent for name in self._webhooks):
            slowest = min(sent.values(), key=order)  # also of those that only a newer file has
            await redis.xtrim(box.OUTBOX, minid=slowest, approximate=True)


def _read(wire: bytes) -> Message | None:
    """None for what another version wrote and this one cannot read: it must not hold up what follows."""
    try:
        return msgspec.json.decode(wire, type=Message)
    except msgspec.DecodeError:
        return None


def _judged(status: int, retry_after: str) -> Attempt:
    """What a receiver's answer means; 408, 425 and 429 are no refusals: https://www.rfc-editor.org/rfc/rfc9110#section-15.5"""
    if 200 <= status < 300:
        return Attempt(delivered=True)
    wait = min(LONGEST_WAIT, float(retry_after)) if retry_after.isdecimal() else 0.0
    refused = status < 500 and status not in (408, 425, 429)
    return Attempt(delivered=False, refused=refused, told=f"HTTP {status}", wait=wait)
