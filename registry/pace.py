"""When a pair is checked next: pure functions of its last record and the settings.

A healthy pair keeps its own phase of the interval, so that load is flat; a first transient failure is confirmed
soon; what is definitively broken is asked less and less often; what a vendor asks us to leave alone, we do.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

from registry.health import REASONS, Fault, Reason, Status
from registry.ids import Pair
from registry.record import Record
from registry.settings import Settings

BACKOFF_AFTER = 3
"""Definitive checks in a row before a pair's interval begins to double."""

UNAUTHENTICATED_INTERVALS = 3
"""A pair that is only ever rate limited for so many intervals is unknown: its credential was not seen to work."""

HARD_TTL_INTERVALS = 3
"""Intervals a record outlives its freshness, so that ``stale`` can be told from ``not_checked``."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The schedule's figures, all in milliseconds."""

    interval: int = 60_000
    confirm_delay: int = 5_000
    believe_delay: int = 30_000
    backoff_max: int = 900_000
    grace: int = 30_000
    unhealthy_threshold: int = 2

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The figures of `settings` (seconds there)."""
        return cls(
            interval=int(settings.check_interval * 1000),
            confirm_delay=int(settings.confirm_delay * 1000),
            believe_delay=int(settings.believe_delay * 1000),
            backoff_max=int(settings.backoff_max * 1000),
            grace=int(settings.fresh_grace * 1000),
            unhealthy_threshold=settings.unhealthy_threshold,
        )


def spread(pair: Pair) -> float:
    """The pair's place in [0, 1): the same for ever, even over all pairs."""
    digest = blake2b(str(pair).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def in_phase(pair: Pair, interval: int, now_ms: int) -> int:
    """The pair's next turn after `now_ms`: half an interval to a whole one away, at its own phase where that is.

    A pair that was checked shortly before its phase goes half of the way to the turn after it, and is in phase then.
    """
    phase = int(spread(pair) * interval)
    wait = interval - (now_ms - phase) % interval
    return now_ms + (wait if wait >= interval // 2 else (wait + interval) // 2)


def next_due(pair: Pair, record: Record, pace: Pace, now_ms: int, interval: float | None = None) -> int:
    """When to check again, Unix milliseconds. `interval` is the pair's own, in seconds, if it has one."""
    every = int(interval * 1000) if interval else pace.interval
    newest = record.newest
    if newest is None:
        return now_ms
    due = in_phase(pair, every, now_ms)
    if newest.status is Status.UNHEALTHY:
        if REASONS[newest.reason].definitive and record.consecutive == 1:
            due = now_ms + min(every, pace.believe_delay)  # nobody is told before it is confirmed
        elif REASONS[newest.reason].definitive and newest.fault is Fault.TENANT:
            doublings = max(0, record.consecutive - BACKOFF_AFTER)
            longest = max(every, pace.backoff_max)
            due = in_phase(pair, min(longest, every << min(doublings, 16)), now_ms)
        elif REASONS[newest.reason].definitive:
            pass  # the vendor is suspected of it: its end is to be seen soon
        elif record.failures < pace.unhealthy_threshold:
            due = now_ms + min(every, pace.confirm_delay)
        else:
            due = now_ms + max(min(every, pace.confirm_delay), every // 2)
    unconfirmed = record.raw is not None and newest.status is Status.UNHEALTHY
    if newest.retry_after and not unconfirmed:
        due = max(due, now_ms + min(int(newest.retry_after * 1000), max(every, pace.backoff_max)))
    return due


def fresh_until(record: Record, due_ms: int, pace: Pace, interval: float | None = None) -> int:
    """Until when the record may be believed: its own next check, plus a grace.

    A check that failed by our own fault extends nothing: the verdict before it ages on. A pair that is only ever rate
    limited is believed for no longer than three intervals after its credential was last seen to work.
    """
    newest = record.newest
    if newest is not None and newest.status is Status.UNKNOWN and record.raw is not None:
        return record.fresh_until_ms
    if newest is not None and newest.reason is Reason.RATE_LIMITED and record.status is not Status.UNKNOWN:
        every = int(interval * 1000) if interval else pace.interval
        return min(due_ms, record.authenticated_ms + UNAUTHENTICATED_INTERVALS * every) + pace.grace
    return due_ms + pace.grace


def hard_ttl(pair: Pair, fresh_until_ms: int, pace: Pace, now_ms: int) -> int:
    """Milliseconds the record stays in Redis: three intervals beyond its freshness, ± 10 % by pair."""
    beyond = HARD_TTL_INTERVALS * pace.interval * (0.9 + 0.2 * spread(pair))
    return max(1_000, int(fresh_until_ms - now_ms + beyond))
