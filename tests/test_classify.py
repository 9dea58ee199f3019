"""The rule tables: order, conditions, the rows all vendors share, and what is kept as evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module

import pytest
from multidict import CIMultiDict

from registry.advice import ADVISED
from registry.check import advised
from registry.classify import COMMON, LONGEST_WAIT, STEPS, Rule, classify, facts_of
from registry.connectors import CONNECTORS
from registry.health import REASONS, Fault, Reason
from registry.http import TRANSPORT, Answer
from registry.vendor import VendorConnector

DOC = "https://example.com"
DATE = "Mon, 21 Sep 2026 14:13:20 GMT"


def vendor(name: str) -> type[VendorConnector]:
    module, _, attribute = CONNECTORS[name].partition(":")
    found: type[VendorConnector] = getattr(import_module(module), attribute)
    return found


def answer(status: int, body: bytes = b"{}", **headers: str) -> Answer:
    named = CIMultiDict((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(status, named, body, 1.0)


def reason(status: int, body: bytes = b"{}", rules: tuple[Rule, ...] = (), **headers: str) -> Reason | None:
    failure = classify(rules, facts_of(answer(status, body, **headers)))
    return failure.reason if failure else None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, None),
        (204, None),
        (100, Reason.BAD_RESPONSE),
        (302, Reason.BAD_RESPONSE),
        (404, Reason.BAD_RESPONSE),
        (418, Reason.BAD_RESPONSE),
        (429, Reason.RATE_LIMITED),
        (500, Reason.VENDOR_ERROR),
        (503, Reason.VENDOR_ERROR),
        (599, Reason.VENDOR_ERROR),
        (999, Reason.BAD_RESPONSE),
    ],
)
def test_what_no_vendor_rule_knows_is_judged_by_its_status(status: int, expected: Reason | None) -> None:
    assert reason(status) is expected


def test_the_first_row_that_fits_counts() -> None:
    rules = (
        Rule(Reason.RATE_LIMITED, "a", DOC, (403,), message="limit"),
        Rule(Reason.PERMISSION_DENIED, "b", DOC, (403,)),
    )
    limited, denied = (facts_of(answer(403), message=text) for text in ("over the LIMIT", "no"))
    assert [failure and failure.reason for failure in (classify(rules, limited), classify(rules, denied))] == [
        Reason.RATE_LIMITED,
        Reason.PERMISSION_DENIED,
    ]


def test_every_condition_of_a_row_must_hold() -> None:
    rule = Rule(Reason.RATE_LIMITED, "a", DOC, (403,), code=("x",), message="m", header=("h", "^0$"))
    fits = facts_of(answer(403, h="0"), ("y", "x"), "M")
    assert rule.fits(fits)
    for other in (
        facts_of(answer(401, h="0"), ("x",), "m"),
        facts_of(answer(403, h="0"), ("y",), "m"),
        facts_of(answer(403, h="0"), ("x",), "n"),
        facts_of(answer(403, h="10"), ("x",), "m"),
        facts_of(answer(403), ("x",), "m"),
    ):
        assert not rule.fits(other)


PAGES = [
    ({"content_type": "text/html; charset=utf-8"}, b"Sign in"),
    ({}, b"<!DOCTYPE html><title>Unicorn!</title>"),
    ({}, b"\n\n  <html>"),
]


@pytest.mark.parametrize("name", CONNECTORS)
@pytest.mark.parametrize("status", [200, 400, 401, 403, 407, 429, 500, 502, 503])
@pytest.mark.parametrize(("headers", "body"), PAGES)
def test_an_html_page_never_puts_a_credential_in_doubt(
    name: str, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    connector = vendor(name)
    failure = classify(connector.rules, connector.facts(answer(status, body, **headers)))
    expected = {429: Reason.RATE_LIMITED, 500: Reason.VENDOR_ERROR, 502: Reason.VENDOR_ERROR, 503: Reason.VENDOR_ERROR}
    assert (failure.reason if failure else Reason.BAD_RESPONSE) is expected.get(status, Reason.BAD_RESPONSE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-5", 0.0),
        ("999999999999", LONGEST_WAIT),
        ("inf", LONGEST_WAIT),
        ("nan", None),
        ("Mon, 21 Sep 2026 14:14:20 GMT", 60.0),
        ("Mon, 21 Sep 2026 14:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("Mon, 99 Foo 2026 25:61:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms_and_bounded(value: str, expected: float | None) -> None:
    failure = classify((), facts_of(answer(429, retry_after=value, date=DATE)))
    assert failure
    assert failure.retry_after == expected


def test_what_is_kept_of_a_vendor_is_small() -> None:
    kept = {"request_id": "x-request-id", "absent": "x-absent"}
    facts = facts_of(answer(400, x_request_id="r" * 5000), ("c" * 5000, 7, None, ""), "m" * 100_000, kept)
    assert facts.evidence == {"http_status": 400, "code": "c" * 80, "request_id": "r" * 120}
    assert len(facts.message) == 500
    assert facts.codes == ("c" * 80,)


@pytest.mark.parametrize("name", CONNECTORS)
def test_every_row_names_a_vendor_document_and_says_something(name: str) -> None:
    for rule in (*vendor(name).rules, *COMMON):
        assert re.fullmatch(r"https://\S+", rule.doc), rule
        assert rule.says
        assert len(rule.says) < 60
        re.compile(rule.message)


@pytest.mark.parametrize("name", CONNECTORS)
def test_every_reason_has_one_sentence_of_advice_per_vendor(name: str) -> None:
    actions = vendor(name).actions
    assert set(actions) == ADVISED
    for sentence in actions.values():
        assert re.fullmatch(r"[A-Z].{20,150}\.", sentence), sentence


@pytest.mark.parametrize("name", CONNECTORS)
def test_whatever_row_fits_there_is_one_sentence_of_advice(name: str) -> None:
    connector = vendor(name)
    verdicts = {(rule.reason, rule.fault or REASONS[rule.reason].fault) for rule in (*connector.rules, *COMMON)}
    verdicts |= {(reason, REASONS[reason].fault) for _, reason, _ in TRANSPORT}
    for reason, fault in verdicts:
        sentence = advised(reason, fault, connector.actions) or REASONS[reason].action
        assert re.fullmatch(r"[A-Z].{20,150}\.", sentence), (reason, fault)
        assert ". " not in sentence, "one sentence"


@pytest.mark.parametrize("name", CONNECTORS)
def test_a_row_that_concludes_a_platform_reason_blames_the_platform(name: str) -> None:
    for rule in vendor(name).rules:
        fault = rule.fault or REASONS[rule.reason].fault
        assert (rule.reason is Reason.MONITOR_ERROR) == (fault is Fault.PLATFORM), rule


@pytest.mark.parametrize("name", CONNECTORS)
def test_every_reason_is_shown_in_a_step_of_the_manifest(name: str) -> None:
    connector = vendor(name)
    steps = {STEPS.get(rule.reason, "api") for rule in connector.rules}
    assert steps - {"quota"} <= set(connector.manifest.steps)


def test_no_row_is_unreachable_behind_an_earlier_one_of_the_same_conditions() -> None:
    for name in CONNECTORS:
        seen = [(tuple(r.status), tuple(r.code), r.message, r.header) for r in vendor(name).rules]
        assert len(seen) == len(set(seen)), name
