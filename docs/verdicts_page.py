"""The page of what each vendor can answer, what we say then, and what we advise: written from the tables themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from importlib import import_module
from itertools import pairwise

from registry.check import OTHERWISE
from registry.checker import OWN_SERVER
from registry.classify import COMMON, Rule
from registry.connectors import CONNECTORS
from registry.health import REASONS, Reason
from registry.http import TRANSPORT
from registry.vendor import VendorConnector

INTRODUCTION = """# Verdicts

What a check can conclude, from what, and what to do then. Generated from the tables in `registry/health.py`,
`registry/http.py`, `registry/classify.py` and `registry/connectors/` by `make docs`.

In every table of rules the first row that fits counts, and every condition in it must hold. `message` and `header` are
patterns, whatever the case. An HTML page, or a refusal (401, 403) in other words than JSON, is no answer of an API:
only rows that say so fit one.
"""


def verdicts_page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *_reasons(), *_transport(), *_common(), *_vendors()])


def vendors() -> list[type[VendorConnector]]:
    """The built-in connectors."""
    found = []
    for target in CONNECTORS.values():
        module, _, name = target.partition(":")
        found.append(getattr(import_module(module), name))
    return found


def _reasons() -> Iterator[str]:
    yield "## Reasons\n"
    yield "A definitive reason takes effect after one check, the others after `UNHEALTHY_THRESHOLD` checks in a row.\n"
    yield from _table(
        "reason", "status", "fault", "definitive", "means", "what to do, where the connector knows no better"
    )
    for reason, row in REASONS.items():
        yield _row(f"`{reason}`", row.status, row.fault, "yes" if row.definitive else "", row.meaning, row.action)
    yield "\n`fault` is who must act. Where evidence names another than the reason's own, the advice is:\n"
    yield from (f"- {fault}: {told}" for fault, told in OTHERWISE.items() if told)
    yield f"\nWhere a vendor's reason is seen at an address that the tenant brought along, it is: {OWN_SERVER}\n"
    yield "`rate_limited` is degraded while the credential was seen to work within three intervals, and then unknown.\n"
    yield ""


def _transport() -> Iterator[str]:
    yield "## No answer\n"
    yield "What happens below HTTP, for all vendors alike. A redirect and a body over the limit are `bad_response`; an"
    yield "address that the egress policy refuses is `misconfigured`; a check over its deadline is `timeout`.\n"
    yield from _table("failure", "reason", "we say")
    for kinds, reason, sentence in TRANSPORT:
        yield _row(", ".join(f"`{kind.__name__}`" for kind in kinds), f"`{reason}`", sentence)
    yield ""


def _common() -> Iterator[str]:
    yield "## Every vendor\n"
    yield "These rows close the table of every vendor. What no row fits is a success, whose shape is looked at next.\n"
    yield from _rules(COMMON)


def _vendors() -> Iterator[str]:
    for vendor in vendors():
        yield f"## {vendor.manifest.title}\n"
        yield from _rules(vendor.rules)
        yield from _table("reason", f"what to do for {vendor.manifest.title}")
        for reason in Reason:
            if reason in vendor.actions:
                yield _row(f"`{reason}`", vendor.actions[reason])
        yield ""


def _rules(rules: Iterable[Rule]) -> Iterator[str]:
    yield from _table("status", "code", "message", "header", "reason", "fault", "we say", "document")
    for rule in rules:
        codes = ", ".join(f"`{code}`" for code in rule.code)
        message = f"`{rule.message}`" if rule.message else ""
        header = f"`{rule.header[0]}`: `{rule.header[1]}`" if rule.header else ""
        says = f"{rule.says} (pages too)" if rule.page else rule.says
        fault = rule.fault or REASONS[rule.reason].fault
        where = f"[{rule.doc.split('/')[2]}]({rule.doc})"
        yield _row(_numbers(rule.status), codes, message, header, f"`{rule.reason}`", fault, says, where)
    yield ""


def _numbers(numbers: Collection[int]) -> str:
    """``400, 401, 500-599``."""
    ordered = sorted(numbers)
    starts = ordered[:1] + [after for before, after in pairwise(ordered) if after != before + 1]
    ends = [before for before, after in pairwise(ordered) if after != before + 1] + ordered[-1:]
    pairs = zip(starts, ends, strict=True)
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in pairs)


def _table(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield "|" + "---|" * len(names)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
