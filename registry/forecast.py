"""What is going to break: a credential about to end, a quota nearly used up. It warns; it never fails a check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.health import Quota, Reason

if TYPE_CHECKING:
    from registry.check import CheckSession

DAY_MS = 86_400_000
_LAST_MS = 253_402_300_799_999
"""The end of the year 9999, after which no date can be written; what a vendor says beyond it is nonsense."""

_LARGEST = 10**15


def expiry(session: CheckSession, ends_ms: int | None, *, refreshed_ms: int | None = None) -> None:
    """Keep when the credential ends, and warn when that is soon.

    Args:
        ends_ms: Unix milliseconds; None: never, or not told.
        refreshed_ms: of a credential that a program refreshes, how long before its end that has happened: until then it
            has no end to be told. None: people renew it, and `expiring_days` of the manifest are soon.
    """
    if ends_ms is None or not 0 < ends_ms <= _LAST_MS:
        return
    left_ms = max(ends_ms - session.now_ms, 0)
    soon = left_ms < (session.manifest.expiring_days * DAY_MS if refreshed_ms is None else refreshed_ms)
    if soon or refreshed_ms is None:
        session.credential_expires_ms = ends_ms
    if soon:
        session.warn(Reason.CREDENTIAL_EXPIRING, f"the credential ends in {_duration(left_ms)}")


def _duration(milliseconds: int) -> str:
    for unit, size in (("days", DAY_MS), ("hours", 3_600_000), ("minutes", 60_000)):
        if milliseconds >= 2 * size:
            return f"{milliseconds // size} {unit}"
    return f"{milliseconds // 1000} seconds"


def quota(session: CheckSession, limit: int | None, remaining: int | None, resets_ms: int | None = None) -> None:
    """Keep what is left of the quota (None: not told), and warn when it is little."""
    if limit is None or remaining is None or not 0 < limit < _LARGEST or not 0 <= remaining < _LARGEST:
        return
    resets_ms = resets_ms if resets_ms is not None and 0 < resets_ms <= _LAST_MS else None
    session.quota = Quota(limit=limit, remaining=min(remaining, limit), resets_ms=resets_ms)
    if remaining <= limit * session.manifest.quota_low:
        session.warn(Reason.QUOTA_LOW, f"{remaining} of {limit} requests are left")


def number(text: str | None) -> int | None:
    """A header's non-negative whole number, or None."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 15 else None
