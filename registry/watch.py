"""Watching a tenant's transitions as they happen, without asking again and again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from registry.connection import AWAY, Redis
from registry.health import Fault, Reason, Status
from registry.ids import SYSTEM
from registry.tail import Tail, ends

RETRY = 0.2
"""Seconds between two attempts to reach a Redis that is away."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A pair's effective status or reason changed. `before` is None for its first verdict.

    `position` is where to resume. `version` is the verdict's, see `HealthStatus`; `at_ms` is Unix milliseconds.
    """

    position: str
    connector: str
    tenant_id: str | None
    before: tuple[Status, Reason] | None
    status: Status
    reason: Reason
    fault: Fault
    at_ms: int
    version: int

    @property
    def healthy(self) -> bool:
        """May it be used now? True for healthy and degraded."""
        return self.status is Status.HEALTHY or self.status is Status.DEGRADED


@dataclass(frozen=True, slots=True)
class Gap:
    """What happened before `position` is not, or no longer, known: read the statuses anew. All that follows is told."""

    position: str


async def transitions(
    redis: Redis, stream: str, tenant: str, *, after: str | None, wait: float
) -> AsyncGenerator[Transition | Gap, None]:
    """One tenant's transitions in its shard's stream of events, through every failure of Redis.

    Args:
        after: the position to resume after; None begins now, with a `Gap`.
        wait: seconds one read waits, at most.
    """
    tail = Tail(redis, {stream: after}, wait=wait) if after is not None else None
    while True:
        try:
            if tail is None:
                at = await ends(redis, [stream])
                tail = Tail(redis, at, wait=wait)
                yield Gap(at[stream])
            news = await tail.read()
        except AWAY:
            await asyncio.sleep(RETRY)
            continue
        if news.gap:
            yield Gap(tail.position(stream))
        for entry in news.entries:
            event = json.loads(entry.fields[b"transition"])
            if event["tenant"] == tenant:
                yield transition_of(entry.position, event)


def transition_of(position: str, event: dict[str, Any]) -> Transition:
    """The transition that an entry of a stream of events holds as JSON."""
    before, (status, reason) = event["from"], event["to"]
    return Transition(
        position,
        event["connector"],
        None if event["tenant"] == SYSTEM else event["tenant"],
        (Status(before[0]), Reason(before[1])) if before else None,
        Status(status),
        Reason(reason),
        Fault(event["fault"]),
        event["at_ms"],
        event["version"],
    )
