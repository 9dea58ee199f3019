"""What a pair has been like: its uptime, its latency and its last transitions, in one string of fixed size.

What is kept is the time that was *credited* to a state; everything else is unknown. So a monitor that stood still, a
lost message and a bug all read as unknown, and never as up. Each recorded check credits the time since the check before
to the effective status of the meantime, for as long as that was fresh (``registry/lua/history.lua``).

The string, big-endian (an unknown `FORMAT` reads as no history, and is written over):

====== ===================== ==============================================================================
offset what                  how
====== ===================== ==============================================================================
0      header                format, next transition, state of the run, spare (a byte each), since, last check,
                             begin and end of the run
20     latency, today        48 × 16 bits, saturating: usable checks by `BOUNDS_MS`
116    latency, yesterday    the same
212    25 hours              4 × 12 bits: seconds healthy, degraded, unhealthy, in maintenance; place: hour % 25
362    31 days               4 × 18 bits, the same; place: day % 31
641    20 transitions        seconds (4 bytes), fault and status (half a byte each), reason; zeros: none
====== ===================== ==============================================================================

The run is the newest stretch of one state without a gap. As long as it goes on, a check writes the first 116 bytes
only; when another one begins, it is moved into hours and days, which are turned up to there.

An entry is one check: credited from and till, time of the check, state, latency's bucket + 1 (0: none), transition.
Times in both are Unix seconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from struct import Struct
from typing import TypeAlias

from registry.health import Fault, Reason, Status, Verdict, rfc3339
from registry.ids import Pair
from registry.record import Kind, Record

FORMAT, SIZE = 1, 761
HOUR, HOURS, HOURS_AT = 3600, 25, 212
DAY, DAYS, DAYS_AT = 86_400, 31, 362
LATENCY_AT, TURNS, TURNS_AT = 20, 20, 641

GROWTH = 1.25
"""Each bucket of latency ends so much later than the one before."""

BOUNDS_MS = tuple(GROWTH**n for n in range(47))
"""Upper bounds of all buckets but the last, from 1 ms to 28.7 s."""

ERROR = math.sqrt(GROWTH) - 1
"""A percentile between the first and the last bound is told with a relative error of at most 11.9 %."""

STATUS_CODES: Mapping[Status, int] = {Status.HEALTHY: 1, Status.DEGRADED: 2, Status.UNHEALTHY: 3, Status.UNKNOWN: 4}
FAULT_CODES: Mapping[Fault, int] = {Fault.NONE: 0, Fault.TENANT: 1, Fault.VENDOR: 2, Fault.PLATFORM: 3}
REASON_CODES: Mapping[Reason, int] = {
    Reason.OK: 1,
    Reason.SLOW: 2,
    Reason.RATE_LIMITED: 3,
    Reason.QUOTA_LOW: 4,
    Reason.CREDENTIAL_EXPIRING: 5,
    Reason.CREDENTIAL_EXPIRED: 6,
    Reason.CREDENTIAL_REJECTED: 7,
    Reason.PERMISSION_DENIED: 8,
    Reason.ACCOUNT_SUSPENDED: 9,
    Reason.MISCONFIGURED: 10,
    Reason.NOT_FOUND: 11,
    Reason.VENDOR_ERROR: 12,
    Reason.BAD_RESPONSE: 13,
    Reason.TIMEOUT: 14,
    Reason.UNREACHABLE: 15,
    Reason.SECRET_UNAVAILABLE: 16,
    Reason.MONITOR_ERROR: 17,
    Reason.NOT_CHECKED: 18,
    Reason.STALE: 19,
    Reason.NOT_CONFIGURED: 20,
}
"""What stands for a word in a stored history: for ever, so a new word gets a new number."""

_STATUSES = {code: status for status, code in STATUS_CODES.items()}
_FAULTS = {code: fault for fault, code in FAULT_CODES.items()}
_REASONS = {code: reason for reason, code in REASON_CODES.items()}
_CREDITED, _MAINTENANCE = {Status.HEALTHY: 0, Status.DEGRADED: 1, Status.UNHEALTHY: 2}, 3
"""Where each state's seconds are. Unknown is what nobody is credited with."""

_HEADER, _ENTRY, _TURN = Struct(">BBBBIIII"), Struct(">IIIBB6s"), Struct(">IBB")
_BUCKETS = Struct(">48H")
_NO_TURN = bytes(_TURN.size)


@dataclass(frozen=True, slots=True)
class Window:
    """The seconds a pair spent in each state since `from_ms`, which together are the time from then until it was read.

    `unknown` is the time nothing fresh was known; `maintenance` the time that was announced beforehand.
    """

    from_ms: int
    healthy: int
    degraded: int
    unhealthy: int
    unknown: int
    maintenance: int

    @property
    def uptime(self) -> float | None:
        """Percent of the known time, maintenance apart, in which it was usable (healthy or degraded); None: no such."""
        up = self.healthy + self.degraded
        return 100 * up / (up + self.unhealthy) if up + self.unhealthy else None

    def as_dict(self) -> dict[str, object]:
        """The public JSON form."""
        seconds = {name: getattr(self, name) for name in ("healthy", "degraded", "unhealthy", "unknown", "maintenance")}
        return {"from": rfc3339(self.from_ms), "uptime_percent": self.uptime, "seconds": seconds}


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of the usable checks of today and yesterday (UTC); None where there were none. See `ERROR`."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None

    def as_dict(self) -> dict[str, object]:
        """The public JSON form."""
        return {"count": self.count, "p50_ms": self.p50, "p95_ms": self.p95, "p99_ms": self.p99}


@dataclass(frozen=True, slots=True)
class Turn:
    """A transition as history keeps it: what the pair turned to, in which second (`at_ms`)."""

    at_ms: int
    status: Status
    reason: Reason
    fault: Fault

    def as_dict(self) -> dict[str, object]:
        """The public JSON form."""
        words = {"status": self.status.value, "reason": self.reason.value, "fault": self.fault.value}
        return {"at": rfc3339(self.at_ms), **words}


@dataclass(frozen=True, slots=True)
class History:
    """One pair's past, as of `read_ms`. `since_ms` is the first check that is in it; None: there is no history.

    `day`, `week` and `month` reach back 24 hours, 7 days and 30 days, and then to the beginning of that hour or day
    (UTC), but not beyond `since_ms`. `transitions` are the last 20, the newest first.
    """

    connector: str
    tenant_id: str | None
    read_ms: int
    since_ms: int | None
    day: Window
    week: Window
    month: Window
    latency: Latency
    transitions: tuple[Turn, ...]
    past: _Past = field(repr=False, compare=False)

    def hours(self) -> tuple[Window, ...]:
        """The hour of now and the 24 before it, one by one, the oldest first; none before the first check."""
        return tuple(self.past.hours()) if self.since_ms is not None else ()

    def as_dict(self) -> dict[str, object]:
        """The public JSON form, with RFC 3339 times; stable, used by the command line."""
        return {
            "connector": self.connector,
            "tenant_id": self.tenant_id,
            "timestamp": rfc3339(self.read_ms),
            "since": rfc3339(self.since_ms),
            "windows": {"24h": self.day.as_dict(), "7d": self.week.as_dict(), "30d": self.month.as_dict()},
            "latency": self.latency.as_dict(),
            "transitions": [turn.as_dict() for turn in self.transitions],
        }


def entry(previous: Record | None, record: Record, verdict: Verdict, *, turned: bool) -> bytes:
    """One check for the history: `verdict` made `previous` into `record`; `turned` if that was a transition."""
    at = verdict.checked_ms // 1000
    state, start, end = _in_force(previous) or (0, at, at)
    bucket = 1 + bisect_left(BOUNDS_MS, verdict.latency_ms) if _usable(verdict.status) else 0
    turn = _NO_TURN
    if turned:
        words = FAULT_CODES[record.fault] << 4 | STATUS_CODES[record.status]
        turn = _TURN.pack(record.since_ms // 1000, words, REASON_CODES[record.reason])
    return _ENTRY.pack(start, min(end, at), at, state, bucket, turn)


def read(pair: Pair, wire: bytes | None, record: Record | None, now_ms: int) -> History:
    """The history as it stands at `now_ms`; `record` tells what has been in force since the last check."""
    kept = wire is not None and len(wire) == SIZE and wire[0] == FORMAT
    blob = wire if wire is not None and kept else bytes(SIZE)
    _, following, state, _, since, last, start, end = _HEADER.unpack_from(blob)
    now = max(now_ms // 1000, last)
    if not kept:
        since = last = start = end = now
    past = _Past(blob, since, last, now, ((state, start, end), _open(record, last, now)))
    return History(
        connector=pair.connector,
        tenant_id=None if pair.is_service else pair.tenant,
        read_ms=now_ms,
        since_ms=since * 1000 if kept else None,
        day=past.window(HOUR, HOURS, HOURS_AT, 12, back=24),
        week=past.window(DAY, DAYS, DAYS_AT, 18, back=7),
        month=past.window(DAY, DAYS, DAYS_AT, 18, back=30),
        latency=past.latency(),
        transitions=tuple(_turns(blob, following)),
        past=past,
    )


Stretch: TypeAlias = "tuple[int, int, int]"
"""A state, and the seconds from which and until which it was in force."""


def _in_force(record: Record | None) -> Stretch | None:
    """What a record says of the time after its newest check; None when that is unknown."""
    if record is None or record.kind is not Kind.CHECKED or record.newest is None:
        return None
    checked_ms = record.newest.checked_ms
    start, end = checked_ms // 1000, max(checked_ms, record.fresh_until_ms) // 1000
    if record.maintenance_ms > checked_ms:
        return _MAINTENANCE, start, end
    state = _CREDITED.get(record.status)
    return None if state is None else (state, start, end)


def _open(record: Record | None, last: int, now: int) -> Stretch:
    """The stretch since the last check, which no other check has credited yet."""
    state, start, end = _in_force(record) or (0, now, now)
    return state, max(last, start), min(now, end)


@dataclass(frozen=True, slots=True)
class _Past:
    """A stored history with the times in its header, and what is not in its hours and days."""

    blob: bytes
    since: int
    last: int
    now: int
    recent: tuple[Stretch, Stretch]
    """The run, then what has been in force since the last check."""

    def window(self, size: int, places: int, offset: int, bits: int, *, back: int) -> Window:
        """What is credited in a ring's place of now and the `back` places before it; what is left is unknown."""
        first = self.now // size - back
        begin, seconds = max(self.since, first * size), [0, 0, 0, 0]
        for place in range(begin // size, self.recent[0][1] // size + 1):
            seconds = self._more(seconds, offset + place % places * bits // 2, bits)
        return self._window(begin, self.now, seconds)

    def hours(self) -> Iterator[Window]:
        """As `History.hours`."""
        for hour in range(max(self.since // HOUR, self.now // HOUR - 24), self.now // HOUR + 1):
            begin, end, seconds = max(self.since, hour * HOUR), min(self.now, (hour + 1) * HOUR), [0, 0, 0, 0]
            if hour <= self.recent[0][1] // HOUR:  # what is kept of later hours is a day old
                seconds = self._more(seconds, HOURS_AT + hour % HOURS * 6, 12)
            yield self._window(begin, end, seconds)

    def _more(self, seconds: list[int], at: int, bits: int) -> list[int]:
        """`seconds` and what is kept `at` one place of a ring."""
        packed = int.from_bytes(self.blob[at : at + bits // 2])
        return [known + (packed >> (3 - state) * bits & (1 << bits) - 1) for state, known in enumerate(seconds)]

    def _window(self, begin: int, end: int, kept: list[int]) -> Window:
        """The time from `begin` to `end`, of which `kept` is in the rings."""
        seconds = list(kept)
        for state, start, till in self.recent:
            seconds[state] += max(0, min(till, end) - max(start, begin))
        healthy, degraded, unhealthy, maintenance = seconds
        unknown = max(0, end - begin - sum(seconds))
        return Window(begin * 1000, healthy, degraded, unhealthy, unknown, maintenance)

    def latency(self) -> Latency:
        """Of today and yesterday."""
        counts, gone = [0] * (len(BOUNDS_MS) + 1), self.now // DAY - self.last // DAY
        for place in range(2 - gone):
            found = _BUCKETS.unpack_from(self.blob, LATENCY_AT + place * _BUCKETS.size)
            counts = [one + more for one, more in zip(counts, found, strict=True)]
        return Latency(sum(counts), *(_percentile(counts, part) for part in (0.50, 0.95, 0.99)))


def _percentile(counts: list[int], part: float) -> float | None:
    """The middle (as factors go) of the bucket that holds it; at both ends the bound."""
    sums = list(accumulate(counts))
    if not sums[-1]:
        return None
    bucket = bisect_left(sums, math.ceil(part * sums[-1]))
    if bucket in (0, len(BOUNDS_MS)):
        return BOUNDS_MS[min(bucket, len(BOUNDS_MS) - 1)]
    return BOUNDS_MS[bucket] / math.sqrt(GROWTH)


def _turns(blob: bytes, following: int) -> Iterator[Turn]:
    """The transitions, the newest first; one that a newer version names in its own words is left out."""
    for back in range(1, TURNS + 1):
        at, words, reason = _TURN.unpack_from(blob, TURNS_AT + (following - back) % TURNS * _TURN.size)
        known = (_STATUSES.get(words & 15), _REASONS.get(reason), _FAULTS.get(words >> 4))
        if known[0] is not None and known[1] is not None and known[2] is not None:
            yield Turn(at * 1000, known[0], known[1], known[2])


def _usable(status: Status) -> bool:
    return status is Status.HEALTHY or status is Status.DEGRADED
