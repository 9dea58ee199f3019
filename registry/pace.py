"""When a pair is checked next: pure functions of its last record and the settings.

A healthy pair keeps its own phase of the interval, so that load is flat; a first transient failure is confirmed
soon; what is definitively broken is asked less and less often; what a vendor asks us to leave alone, we do; and a pair
whose budgets (`registry.budget`) are shared by many waits for as long as its share of them needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Self

from registry.connector import ConnectorConfig
from registry.health import REASONS, Fault, Reason, Status, Verdict
from registry.ids import Pair
from registry.record import Record
from registry.settings import Settings

BACKOFF_AFTER = 3
"""Definitive checks in a row before a pair's interval begins to double."""

UNAUTHENTICATED_INTERVALS = 3
"""A pair that is only ever rate limited for so many intervals is unknown: its credential was not seen to work."""

HARD_TTL_INTERVALS = 3
"""Intervals a record outlives its freshness, so that ``stale`` can be told from ``not_checked``."""

RETURN_OVER = 0.25
"""Part of an interval over which pairs come back that a vendor sent away until the same moment."""

BUDGET_GRACE = 0.25
"""Part of its share of the budget that a pair may wait for a free place, and still be believed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The schedule's figures, all in milliseconds; `intervals` and `tenants`: of those that have their own."""

    interval: int = 60_000
    confirm_delay: int = 5_000
    believe_delay: int = 30_000
    backoff_max: int = 900_000
    grace: int = 30_000
    unhealthy_threshold: int = 2
    intervals: Mapping[str, int] = field(default_factory=dict)
    tenants: Mapping[str, int] = field(default_factory=dict)

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
            intervals={name: int(seconds * 1000) for name, seconds in settings.check_intervals.items()},
            tenants={name: int(seconds * 1000) for name, seconds in settings.tenant_intervals.items()},
        )

    def usual(self, connector: str) -> int:
        """The interval of a connector's pairs where neither they nor their tenants have one of their own."""
        return self.intervals.get(connector, self.interval)

    def every(self, pair: Pair, config: ConnectorConfig | None) -> int:
        """The pair's interval: its configuration's own, else its tenant's, else its connector's, else everybody's."""
        if config and config.interval:
            return int(config.interval * 1000)
        return self.tenants.get(pair.tenant) or self.usual(pair.connector)

    def at_most(self, pair: Pair, config: ConnectorConfig | None) -> int:
        """The pair's interval, or its connector's if that is shorter: for waits that are no fault of the pair's."""
        return min(self.every(pair, config), self.usual(pair.connector))


@lru_cache(maxsize=4096)  # every record asks twice
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


def next_due(pair: Pair, record: Record, pace: Pace, now_ms: int, every: int, share: int = 0) -> int:
    """When to check again, Unix milliseconds.

    Args:
        every: the pair's own interval, see `Pace.every`.
        share: milliseconds between two checks if the pair takes no more than its share of its budgets; 0: it has none.
            What confirms a first failure comes sooner all the same.
    """
    newest = record.newest
    if newest is None:
        return now_ms
    usual, every = max(share, min(every, pace.usual(pair.connector))), max(every, share)
    if newest.status is Status.UNKNOWN:
        due = in_phase(pair, usual, now_ms)  # a fault of ours: it tells nothing of the pair, whose interval may be long
    elif newest.status is Status.UNHEALTHY:
        due = _due_failing(pair, record, newest, pace, now_ms, every, share)
    else:
        due = in_phase(pair, every, now_ms)
    unconfirmed = record.raw is not None and newest.status is Status.UNHEALTHY
    asked = _sent_away(newest, now_ms)
    if asked > now_ms and not unconfirmed:
        back = asked + int(spread(pair) * RETURN_OVER * every)
        due = max(due, min(back, now_ms + max(every, pace.backoff_max)))
    return due


def _due_failing(pair: Pair, record: Record, newest: Verdict, pace: Pace, now_ms: int, every: int, share: int) -> int:
    """A failure is confirmed soon; then a tenant's own is asked ever less often, any other more often than usual.

    Doubling keeps the pair's phase, which is its jitter: pairs that break together come back apart.
    """
    if REASONS[newest.reason].definitive:
        if record.consecutive == 1:
            return now_ms + min(every, pace.believe_delay)  # nobody is told before it is confirmed
        if newest.fault is not Fault.TENANT:
            return in_phase(pair, every, now_ms)  # the vendor is suspected of it: its end is to be seen soon
        doublings = min(16, max(0, record.consecutive - BACKOFF_AFTER))
        return in_phase(pair, min(max(every, pace.backoff_max), every << doublings), now_ms)
    soon = min(every, pace.confirm_delay)
    return now_ms + (soon if record.failures < pace.unhealthy_threshold else max(soon, every // 2, share))


def _sent_away(newest: Verdict, now_ms: int) -> int:
    """Until when the vendor wants to be left alone, Unix milliseconds: ``Retry-After``, and the reset of a quota."""
    until = now_ms + int(newest.retry_after * 1000) if newest.retry_after else 0
    used_up = newest.reason in (Reason.RATE_LIMITED, Reason.QUOTA_LOW)
    resets_ms = newest.quota.resets_ms if used_up and newest.quota else None
    return max(until, resets_ms or 0)


def fresh_until(record: Record, due_ms: int, pace: Pace, every: int, share: int = 0) -> int:
    """Until when the record may be believed: its own next check, plus a grace.

    A check that failed by our own fault extends nothing: the verdict before it ages on. One that awaits confirmation
    lets the verdict before it stand, but brings none back that is too old. A pair that is only ever rate limited is
    believed for no longer than three intervals after its credential was last seen to work.
    """
    grace = max(pace.grace, int(BUDGET_GRACE * share))
    newest = record.newest
    if newest is not None and record.raw is not None:  # the verdict before it stands
        over = record.fresh_until_ms <= newest.checked_ms
        if over or newest.status is Status.UNKNOWN:
            return record.fresh_until_ms
    if newest is not None and newest.reason is Reason.RATE_LIMITED and record.status is not Status.UNKNOWN:
        believed = record.last_authenticated_ms + UNAUTHENTICATED_INTERVALS * max(every, share)
        return min(due_ms, believed) + grace
    return due_ms + grace


def hard_ttl(pair: Pair, fresh_until_ms: int, now_ms: int, every: int) -> int:
    """Milliseconds the record stays in Redis: three intervals beyond its freshness, ± 10 % by pair."""
    beyond = HARD_TTL_INTERVALS * every * (0.9 + 0.2 * spread(pair))
    return max(1_000, int(fresh_until_ms - now_ms + beyond))
