"""What the cache keeps of one pair, its compact wire form, and how a reader sees it.

The wire form is JSON with short names that begins with revision and fence: these are what the scripts compare, the rest
is opaque to them.
"""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import DecodeError, Struct
from msgspec import field as named
from msgspec.json import Decoder, Encoder
from msgspec.structs import replace

from registry.health import Details, Fault, HealthStatus, Reason, Status, Verdict
from registry.ids import Pair

CLOCK_SLACK_MS = 10_000
"""Clocks that are carried forward from Redis' time agree better than this."""


class Kind(StrEnum):
    """What a record stands for."""

    CHECKED = "c"
    WAITING = "w"
    """Configured, or newly configured: no check of this revision has finished yet."""
    GONE = "g"
    """Tombstone of a deleted pair: refuses results that are still under way."""


class Record(Struct, frozen=True, gc=False, omit_defaults=True):
    """The stored state of a pair: the effective verdict, the counters behind it, and the order stamps.

    `revision` and `fence` order writes. `verdict` is the check that the effective verdict rests on, `raw` the
    newest check where its own verdict is another. `failures` counts transient failures in a row, `successes`
    usable checks in a row, `consecutive` checks in a row with the same raw outcome. Times are Unix milliseconds;
    an `authenticated_ms` of None is that of `verdict`, see `last_authenticated_ms`; the newest check fell into
    maintenance up to `maintenance_ms`, if that is not 0. Only what is `Kind.CHECKED` has a verdict and a status: the
    defaults below keep the records of healthy pairs short.
    """

    revision: int = named(name="rv")
    fence: int = named(name="fe")
    kind: Kind = named(name="k", default=Kind.CHECKED)
    status: Status = named(name="s", default=Status.HEALTHY)
    reason: Reason = named(name="r", default=Reason.OK)
    fault: Fault = named(name="f", default=Fault.NONE)
    since_ms: int = named(name="b", default=0)
    fresh_until_ms: int = named(name="u", default=0)
    consecutive: int = named(name="n", default=0)
    failures: int = named(name="x", default=0)
    successes: int = named(name="y", default=0)
    authenticated_ms: int | None = named(name="a", default=None)
    verdict: Verdict | None = named(name="v", default=None)
    raw: Verdict | None = named(name="w", default=None)
    maintenance_ms: int = named(name="mt", default=0)

    @property
    def head(self) -> str:
        """How the wire form begins."""
        return f'{{"rv":{self.revision},"fe":{self.fence}'

    @property
    def newest(self) -> Verdict | None:
        """The newest check's own verdict."""
        return self.raw or self.verdict

    @property
    def last_authenticated_ms(self) -> int:
        """When the credential was last seen to work."""
        if self.authenticated_ms is None:
            return self.verdict.checked_ms if self.verdict else 0
        return self.authenticated_ms

    def precedes(self, revision: int, fence: int) -> bool:
        """May a result with this stamp replace the record? Only a strictly newer one."""
        return (self.revision, self.fence) < (revision, fence)


def shortened(record: Record) -> Record:
    """The same without what nobody asks of a pair that works, as almost every pair does."""
    if record.verdict is None or record.status is Status.UNHEALTHY:
        return record
    known = record.authenticated_ms == record.verdict.checked_ms
    return replace(record, successes=0, authenticated_ms=None if known else record.authenticated_ms)


encode = Encoder().encode
"""The wire form of a record."""


class _Checked(Struct, frozen=True, gc=False):
    checked_ms: int = named(name="t", default=0)


class _Glance(Struct, frozen=True, gc=False):
    """What of a `Record` decides what a reader is told."""

    fence: int = named(name="fe")
    kind: Kind = named(name="k", default=Kind.CHECKED)
    status: Status = named(name="s", default=Status.HEALTHY)
    reason: Reason = named(name="r", default=Reason.OK)
    fault: Fault = named(name="f", default=Fault.NONE)
    since_ms: int = named(name="b", default=0)
    fresh_until_ms: int = named(name="u", default=0)
    consecutive: int = named(name="n", default=0)
    verdict: _Checked | None = named(name="v", default=None)


_CHECKED = Kind.CHECKED
_decode, _glance = Decoder(Record).decode, Decoder(_Glance).decode
_HEAD = re.compile(rb'{"rv":(\d+),"fe":(\d+)')


def decode(wire: bytes) -> Record:
    """The inverse of `encode`.

    What another version wrote and this one cannot read is as good as not checked; it can still be written over.
    """
    try:
        return _decode(wire)
    except DecodeError:
        head = _HEAD.match(wire)
        if head is None:
            raise
        return Record(int(head[1]), int(head[2]), Kind.WAITING)


def seen(pair: Pair, record: Record, now_ms: int) -> HealthStatus:
    """What a reader is told at `now_ms`. Past `fresh_until_ms` nothing is believed any more."""
    if record.kind is Kind.GONE:
        return absent(pair, Reason.NOT_CONFIGURED, now_ms)
    if record.kind is Kind.WAITING or record.verdict is None:
        return absent(pair, Reason.NOT_CHECKED, now_ms, version=record.fence)
    checked_ms = record.verdict.checked_ms
    # A check of the future was made before Redis' clock was set back: nothing is known of its age.
    stale = now_ms >= record.fresh_until_ms or checked_ms > now_ms + CLOCK_SLACK_MS
    status, reason, fault = record.status, record.reason, record.fault
    if stale:
        ours = record.raw is not None and record.raw.fault is Fault.PLATFORM
        reason = record.raw.reason if record.raw and ours else Reason.STALE
        status, fault = Status.UNKNOWN, Fault.PLATFORM
    return HealthStatus(
        connector=pair.connector,
        tenant_id=None if pair.is_service else pair.tenant,
        status=status,
        reason=reason,
        fault=fault,
        read_ms=now_ms,
        checked_ms=checked_ms,
        since_ms=record.fresh_until_ms if stale else record.since_ms,
        fresh_until_ms=record.fresh_until_ms,
        version=record.fence,
        consecutive=record.consecutive,
        stale=stale,
        last_known=record.status if stale else None,
        kept=Details(record.verdict, record.raw, record.maintenance_ms),
    )


def glimpsed(connector: str, tenant_id: str | None, wire: bytes, now_ms: int) -> HealthStatus | None:
    """As `seen`, of a verdict that is fresh: only what decides is decoded. None: it is for `seen`."""
    try:
        found = _glance(wire)
    except DecodeError:
        return None
    verdict = found.verdict
    if verdict is None or found.kind is not _CHECKED:
        return None
    if now_ms >= found.fresh_until_ms or verdict.checked_ms > now_ms + CLOCK_SLACK_MS:
        return None
    return HealthStatus(  # by position, which costs a fifth of names
        connector,
        tenant_id,
        found.status,
        found.reason,
        found.fault,
        now_ms,
        verdict.checked_ms,
        found.since_ms,
        found.fresh_until_ms,
        found.fence,
        found.consecutive,
        False,  # noqa: FBT003 - by position
        None,
        wire,
    )


def seen_alone(pair: Pair, verdict: Verdict, now_ms: int) -> HealthStatus:
    """What one check says by itself, of which nothing is kept; never stale, for it is of this moment."""
    told = (verdict.status, verdict.reason, verdict.fault)
    record = Record(0, 0, Kind.CHECKED, *told, now_ms, now_ms + 1, verdict=verdict)
    return seen(pair, record, now_ms)


def absent(pair: Pair, reason: Reason, now_ms: int, *, version: int = 0, error: str | None = None) -> HealthStatus:
    """A reading without a verdict: ``not_checked``, ``not_configured``, or ``monitor_error`` when Redis is away."""
    return HealthStatus(
        connector=pair.connector,
        tenant_id=None if pair.is_service else pair.tenant,
        status=Status.UNKNOWN,
        reason=reason,
        fault=Fault.NONE if reason is Reason.NOT_CONFIGURED else Fault.PLATFORM,
        read_ms=now_ms,
        version=version,
        kept=Details(error=error),
    )
