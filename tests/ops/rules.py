"""The alert rules and their unit tests, as data."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired, TypedDict, cast

import yaml

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "ops/prometheus/rules"
TESTS = ROOT / "ops/prometheus/tests"

Rule = TypedDict(
    "Rule",
    {
        "alert": NotRequired[str],
        "record": NotRequired[str],
        "expr": str,
        "for": NotRequired[str],
        "labels": NotRequired[dict[str, str]],
        "annotations": NotRequired[dict[str, str]],
    },
)


class Alert(TypedDict):
    """What a test expects of an alert at one moment."""

    exp_labels: dict[str, str]
    exp_annotations: dict[str, str]


class Moment(TypedDict):
    """One look at an alert in a test."""

    eval_time: str
    alertname: str
    exp_alerts: list[Alert]


class Series(TypedDict):
    """What Prometheus is told to have seen."""

    series: str
    values: str


class Case(TypedDict):
    """One unit test of a rule."""

    interval: str
    input_series: list[Series]
    alert_rule_test: list[Moment]
    external_labels: NotRequired[dict[str, str]]


class CaseFile(TypedDict):
    """A file of `TESTS`."""

    rule_files: list[str]
    evaluation_interval: str
    tests: list[Case]


def rules() -> list[Rule]:
    """Every rule, in the order of the files."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(RULES.glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in cast("list[Rule]", group["rules"])]


def alerts() -> list[Rule]:
    """Those that alert."""
    return [rule for rule in rules() if "alert" in rule]


def case_file(path: Path) -> CaseFile:
    """The unit tests of one file of rules."""
    return cast("CaseFile", yaml.safe_load(path.read_text(encoding="utf-8")))
