"""Telling every replica that a configuration, a secret or a connector is not what it was.

A change is written to its shard's stream of changes in the same step as to the schedule; every process that keeps
something (instances, secrets, exchanged tokens) follows those streams and forgets what is outdated. Whoever cannot
know what it missed forgets everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from registry import keys
from registry.connection import AWAY, Redis
from registry.ids import Pair
from registry.tail import Entry, Tail, ends

log = structlog.get_logger(__name__)

RETRY = 0.2
"""Seconds between two attempts to reach a Redis that is away."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What changed: one pair, up to `revision` (0: whatever the revision, its secrets are others now), or, without a
    `tenant`, the connector itself, which was unregistered.
    """

    connector: str
    tenant: str | None = None
    revision: int = 0

    @property
    def pair(self) -> Pair | None:
        """The pair that changed; None when the connector did."""
        return Pair(self.connector, self.tenant) if self.tenant is not None else None


Hearer = Callable[[Announcement | None], None]
"""Forgets what an announcement makes outdated; None: anything may have changed."""


class Announcements:
    """Hears what this process and all others announce. Belongs to the event loop that follows.

    Args:
        origin: this process's name in announcements; its own are heard when they are made, not again from the stream.
        wait: seconds a look at the streams may wait, at most; less than the connection's timeout.
        patience: seconds `start` waits at most.
    """

    def __init__(self, redis: Redis, origin: str, *, shards: int, wait: float, patience: float) -> None:
        self._redis, self._origin, self._wait, self._patience = redis, origin, wait, patience
        self._streams = [keys.changes(shard) for shard in range(shards)]
        self._hearers: list[Hearer] = []
        self._following: asyncio.Task[None] | None = None
        self._standing, self._ahead = asyncio.Event(), False

    def hear(self, hearer: Hearer) -> None:
        """Let `hearer` know of everything that is announced from now on."""
        self._hearers.append(hearer)

    def tell(self, announcement: Announcement | None) -> None:
        """Let this process's hearers know, at once."""
        for hearer in self._hearers:
            hearer(announcement)

    async def unregistered(self, connector: str) -> None:
        """Tell everybody that a connector was unregistered. Raises what redis-py raises."""
        self.tell(Announcement(connector))
        fields: dict[str, str] = {"connector": connector, "by": self._origin}
        await self._redis.xadd(self._streams[0], fields, maxlen=keys.CHANGES_CAP)  # type: ignore[arg-type]  # as above

    async def start(self) -> None:
        """Follow from now on, in the background; returns when that has begun, or when Redis lets us wait."""
        if self._following is None:
            self._following = asyncio.create_task(self.follow(), name="announcements")
        if not self._standing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self._standing.wait()
                return
            self._ahead = True

    async def follow(self) -> None:
        """Follow until cancelled, through every failure of Redis."""
        tail: Tail | None = None
        while True:
            try:
                if tail is None:
                    tail = Tail(self._redis, await ends(self._redis, self._streams), wait=self._wait)
                    self._stand()
                news = await tail.read()
            except AWAY as error:
                log.info("changes_not_heard", error=type(error).__name__)
                if tail is None:
                    self._ahead = True
                    self._standing.set()
                await asyncio.sleep(RETRY)
                continue
            if news.gap:
                self.tell(None)
            for entry in news.entries:
                self._heard(entry)

    def _stand(self) -> None:
        """From here on everything is heard; what was kept before may be outdated already."""
        self._standing.set()
        if self._ahead:
            self.tell(None)

    def _heard(self, entry: Entry) -> None:
        fields = {name.decode(): value.decode() for name, value in entry.fields.items()}
        if fields["by"] != self._origin:
            self.tell(Announcement(fields["connector"], fields.get("tenant"), int(fields.get("revision", 0))))

    async def aclose(self) -> None:
        """Stop following."""
        if self._following is not None:
            following, self._following = self._following, None
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            self._standing.clear()
