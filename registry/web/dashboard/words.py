"""How the dashboard says things: closed words as sentences, durations as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from registry.health import REASONS, Fault, Reason, Status, moment, rfc3339

RANKED = (Status.UNHEALTHY, Status.UNKNOWN, Status.DEGRADED, Status.HEALTHY)
"""The statuses, the worst first."""

FAULTS: Mapping[Fault, str] = {
    Fault.NONE: "nobody must act",
    Fault.TENANT: "the tenant must act",
    Fault.VENDOR: "the vendor’s fault",
    Fault.PLATFORM: "our own fault",
}
"""Whose fault it is, in a sentence."""

PARTIES: Mapping[Fault, str] = {
    Fault.NONE: "nobody",
    Fault.TENANT: "the tenant",
    Fault.VENDOR: "the vendor",
    Fault.PLATFORM: "us",
}

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def reason(value: Reason | str) -> str:
    """A reason as words: ``credential_rejected`` → credential rejected."""
    return str(value).replace("_", " ")


def meaning(value: Reason) -> str:
    """What a reason means, in one sentence."""
    return REASONS[value].meaning


def span(seconds: float) -> str:
    """A duration in its two largest units.

    >>> span(42), span(3_720), span(183_600)
    ('42 s', '1 h 2 min', '2 d 3 h')
    """
    left = max(0, int(seconds))
    if left < 60:
        return f"{left} s"
    at = next(n for n, (size, _) in enumerate(_UNITS) if left >= size)
    size, unit = _UNITS[at]
    whole, rest = divmod(left, size)
    if at + 1 == len(_UNITS):
        return f"{whole} {unit}"
    smaller, word = _UNITS[at + 1]
    return f"{whole} {unit} {rest // smaller} {word}" if rest // smaller else f"{whole} {unit}"


def exact(milliseconds: int) -> str:
    """A moment to the second, in UTC."""
    return moment(milliseconds).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(milliseconds: int) -> str:
    """The hour and minute of a moment, in UTC."""
    return moment(milliseconds).strftime("%H:%M")


def machine(milliseconds: int) -> str:
    """A moment for programs, RFC 3339."""
    return rfc3339(milliseconds) or ""


def number(value: float) -> str:
    """A figure with thousands apart."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(value: float | None) -> str:
    """A share out of 100; what is not quite 100 is never written as 100.

    >>> percent(99.999), percent(100), percent(None)
    ('99.99 %', '100 %', '–')
    """
    if value is None:
        return "–"
    cut = int(value * 100) / 100
    return f"{cut:g} %"


def milliseconds(value: float | None) -> str:
    """A latency."""
    if value is None:
        return "–"
    return f"{value / 1000:.1f} s" if value >= 1_000 else f"{value:.0f} ms"


def many(count: int, one: str, more: str | None = None) -> str:
    """A count and its noun.

    >>> many(1, "tenant"), many(2, "tenant")
    ('1 tenant', '2 tenants')
    """
    return f"{number(count)} {one if count == 1 else more or f'{one}s'}"


def sentence(text: str) -> str:
    """A text as a sentence: errors and explanations are kept without its beginning and end.

    >>> sentence("no answer"), sentence("It is `ok`.")
    ('No answer.', 'It is `ok`.')
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def href(*segments: str, **query: str | int | None) -> str:
    """A local address of path segments, each quoted whole: ids may hold ``:`` and ``@``; None and "" are left out.

    >>> href("tenants", "acme:eu/1", page=2)
    '/tenants/acme%3Aeu%2F1?page=2'
    """
    asked = urlencode({name: value for name, value in query.items() if value not in (None, "")})
    return "/" + "/".join(quote(segment, safe="") for segment in segments) + (f"?{asked}" if asked else "")
