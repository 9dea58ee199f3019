"""Small drawings as numbers for SVG attributes: styles are forbidden by the content policy, and not needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from registry.history import HOUR, Window
from registry.trend import Minute
from registry.web.dashboard.words import clock, many, percent

HEIGHT = 24
"""Units of a drawing's height."""

STEP, BAR = 3, 2
"""Units from one column to the next, and of its own width."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Columns, stacked from the bottom: a path for each class of `paths`, and what it shows in a sentence."""

    width: int
    paths: Mapping[str, str]
    told: str
    height: int = HEIGHT


def _columns(columns: Iterable[Sequence[tuple[str, float]]]) -> dict[str, str]:
    """Paths of stacked columns; each is (class, share of the height)."""
    paths: dict[str, list[str]] = {}
    for place, column in enumerate(columns):
        bottom = float(HEIGHT)
        for name, share in column:
            tall = max(1.5, share * HEIGHT) if share else 0.0
            if tall:
                top = max(0.0, bottom - tall)
                paths.setdefault(name, []).append(f"M{place * STEP} {top:.4g}h{BAR}V{bottom:.4g}h-{BAR}z")
                bottom = top
    return {name: "".join(parts) for name, parts in paths.items()}


_PLACES = ("failed", "rejected", "limited", "ours", "good")


def sparkline(minutes: Sequence[Minute], last_ms: int) -> Drawing:
    """How the checks of some minutes ended, each minute whole; the first is `len(minutes)` minutes before `last_ms`."""
    columns, total, good, worst = [], 0, 0, (1.0, 0)
    for place, minute in enumerate(minutes):
        counts = [(name, getattr(minute, name)) for name in _PLACES]
        all_ = sum(count for _, count in counts)
        total, good = total + all_, good + minute.good
        columns.append([(name, count / all_) for name, count in counts] if all_ else [("blank", 0.05)])
        share = minute.share
        if share is not None and share < worst[0]:
            worst = (share, last_ms - (len(minutes) - place) * 60_000)
    if not total:
        told = "no checks were counted in the last hour"
    else:
        told = f"last hour: {percent(100 * good / total)} of {many(total, 'check')} ended well"
        told += f"; worst at {clock(worst[1])} UTC: {percent(100 * worst[0])}" if worst[1] else ""
    return Drawing(len(minutes) * STEP - 1, _columns(columns), told)


_STATES = ("unhealthy", "degraded", "maintenance", "healthy", "unknown")


@dataclass(frozen=True, slots=True)
class Strip:
    """The last day by the hour: a drawing, and a sentence for each of its columns."""

    drawing: Drawing
    hours: Sequence[tuple[int, str]]
    """Where each column begins, and what it shows."""


def strip(hours: Sequence[Window], now_ms: int) -> Strip:
    """A pair's last 24 hours and the hour of now; hours before its first check are blank."""
    places, now = 25, now_ms // 1000 // HOUR
    columns: list[list[tuple[str, float]]] = [[("blank", 0.05)] for _ in range(places)]
    told: list[tuple[int, str]] = []
    for window in hours:
        place = places - 1 - (now - window.from_ms // 1000 // HOUR)
        seconds = {name: getattr(window, name) for name in _STATES}
        whole = sum(seconds.values())
        if not 0 <= place < places or not whole:
            continue
        columns[place] = [(name, count / whole) for name, count in seconds.items()]
        told.append((place * STEP, f"{clock(window.from_ms)} UTC: {_hour(seconds, whole)}"))
    known = [window for window in hours if window.uptime is not None]
    bad = sum(1 for window in known if window.unhealthy)
    sentence = f"last 24 hours by the hour: {many(bad, 'hour')} with failures" if known else "nothing is known yet"
    return Strip(Drawing(places * STEP - 1, _columns(columns), sentence), told)


def _hour(seconds: Mapping[str, int], whole: int) -> str:
    parts = [f"{name} {max(1, round(100 * count / whole))} %" for name, count in seconds.items() if count]
    return ", ".join(parts)


def bar(part: float, whole: float) -> int:
    """`part` of `whole` as the width of a bar of 100 units."""
    return max(0, min(100, round(100 * part / whole))) if whole > 0 else 0
