"""From an HTTP answer to a reason: tables of `Rule`, the first row that fits counts.

A connector brings the rows of its vendor; `COMMON` holds what all share and closes every table. An HTML page, or a
refusal that is no JSON, is not the vendor's API speaking (a proxy, a block of our address, a login form, a maintenance
page), so rows of a vendor do not apply to it unless they say so, and it never puts a tenant's credential in doubt.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType

from registry.errors import CheckFailed
from registry.health import Evidence, Fault, Reason, Scalar
from registry.http import Answer

TEXT_LIMIT = 500
"""Characters of a vendor's message that are looked at."""

LONGEST_WAIT = 86_400.0
"""Seconds: a vendor that asks to be left alone for longer is asked again after this."""

_STATUS = "https://www.rfc-editor.org/rfc/rfc9110.html#name-status-codes"
_TOO_MANY = "https://www.rfc-editor.org/rfc/rfc6585.html#section-4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a table looks at: the status, and what the vendor's reader found in headers and body.

    `codes` are the vendor's machine-readable names of the error, `message` is its text, cut. `retry_after` is in
    seconds. `page` says what it is where it is not the vendor's API that speaks.
    """

    status: int
    headers: Mapping[str, str]
    codes: tuple[str, ...] = ()
    message: str = ""
    page: str = ""
    retry_after: float | None = None
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: every condition that is given must hold.

    Args:
        reason: the verdict.
        says: the sentence that is shown.
        doc: where it is documented.
        status: HTTP statuses.
        code: vendor codes, one of which must be there.
        message: a pattern found in the vendor's message, whatever its case.
        header: a header's name and a pattern found in its value, whatever its case.
        fault: who must act, where it is not the reason's default.
        page: for pages too, see `Facts`.
    """

    reason: Reason
    says: str
    doc: str
    status: Collection[int] = ()
    code: Collection[str] = ()
    message: str = ""
    header: tuple[str, str] | None = None
    fault: Fault | None = None
    page: bool = False

    def fits(self, facts: Facts) -> bool:
        """Does this row apply?"""
        return (
            (self.page or not facts.page)
            and (not self.status or facts.status in self.status)
            and (not self.code or any(code in self.code for code in facts.codes))
            and (not self.message or _found(self.message, facts.message))
            and (self.header is None or _found(self.header[1], facts.headers.get(self.header[0])))
        )


def _found(pattern: str, text: str | None) -> bool:
    return text is not None and re.search(pattern, text, re.IGNORECASE) is not None


COMMON: tuple[Rule, ...] = (
    Rule(Reason.RATE_LIMITED, "too many requests", _TOO_MANY, status=(429,), page=True),
    Rule(Reason.VENDOR_ERROR, "the vendor failed to answer", _STATUS, status=range(500, 600), page=True),
    Rule(Reason.BAD_RESPONSE, "an undocumented answer", _STATUS, status=(*range(200), *range(300, 500)), page=True),
    Rule(Reason.BAD_RESPONSE, "an undocumented answer", _STATUS, status=range(600, 1000), page=True),
)
"""The rows at the end of every vendor's table. What no row fits is a success whose shape is looked at next."""

STEPS: Mapping[Reason, str] = {
    Reason.CREDENTIAL_EXPIRED: "auth",
    Reason.CREDENTIAL_REJECTED: "auth",
    Reason.ACCOUNT_SUSPENDED: "auth",
    Reason.PERMISSION_DENIED: "permissions",
    Reason.NOT_FOUND: "permissions",
    Reason.RATE_LIMITED: "quota",
}
"""The step in which a reason is shown; all others belong to ``api``."""


def classify(rules: Sequence[Rule], facts: Facts) -> CheckFailed | None:
    """The failure that `facts` mean by `rules` and `COMMON`, or None for a success."""
    for rule in (*rules, *COMMON):
        if rule.fits(facts):
            return CheckFailed(
                rule.reason,
                f"{rule.says} ({_quoted(facts)})",
                fault=rule.fault,
                evidence=facts.evidence,
                retry_after=facts.retry_after if rule.reason in (Reason.RATE_LIMITED, Reason.VENDOR_ERROR) else None,
            )
    return None


def _quoted(facts: Facts) -> str:
    told = [f"HTTP {facts.status}", *facts.codes[:2], facts.page or facts.message]
    return ", ".join(part for part in told if part)


def facts_of(
    answer: Answer, codes: Sequence[object] = (), message: object = "", kept: Mapping[str, str] = MappingProxyType({})
) -> Facts:
    """The facts that every vendor tells alike, with the `codes` and `message` of this vendor's error body.

    Whatever is not text is left out; text is cut. `kept` are the headers to keep as evidence: name → header.
    """
    named = tuple(code[:80] for code in codes if isinstance(code, str) and code)
    headers = {name: answer.headers.get(header, "")[:120] for name, header in kept.items()}
    evidence: dict[str, Scalar] = {"http_status": answer.status, "code": named[0] if named else "", **headers}
    return Facts(
        status=answer.status,
        headers=answer.headers,
        codes=named,
        message=message[:TEXT_LIMIT] if isinstance(message, str) else "",
        page="an HTML page" if is_page(answer) else "",
        retry_after=retry_after(answer.headers),
        evidence={name: value for name, value in evidence.items() if value},
    )


def is_page(answer: Answer) -> bool:
    """Is this an HTML document, by its type or by how it begins?"""
    return "html" in answer.headers.get("content-type", "").lower() or answer.body[:64].lstrip()[:1] == b"<"


def is_foreign(answer: Answer) -> bool:
    """Is this a refusal in other words than JSON? One without any word may be an API's that speaks it."""
    if answer.status not in (401, 403) or not answer.body.strip():
        return False
    try:
        json.loads(answer.body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return True
    return False


def retry_after(headers: Mapping[str, str]) -> float | None:
    """``Retry-After`` as seconds from now, between 0 and `LONGEST_WAIT`; None when absent or unreadable.

    https://www.rfc-editor.org/rfc/rfc9110.html#name-retry-after
    """
    value = headers.get("retry-after", "")
    try:
        return _bounded(float(value))
    except ValueError:
        moment = _moment(value)
        return None if moment is None else _bounded((moment - answered_at(headers)).total_seconds())


def wait_until(unix_seconds: float, headers: Mapping[str, str]) -> float | None:
    """The seconds until a reset time that the vendor told, between 0 and `LONGEST_WAIT`."""
    return _bounded(unix_seconds - answered_at(headers).timestamp())


def answered_at(headers: Mapping[str, str]) -> datetime:
    """When the vendor says it answered: waits are measured on its clock, so that a wrong one of ours does no harm."""
    return _moment(headers.get("date", "")) or datetime.now(UTC)


def _bounded(seconds: float) -> float | None:
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT)


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        return None
