"""The Grafana dashboard's panels and variables, and what they ask Prometheus for given values of the variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypedDict, cast

from tests.ops.rules import ROOT

FILE = ROOT / "ops/grafana/dashboards/connector-health.json"


class Target(TypedDict):
    """One query of a panel."""

    expr: str


class Panel(TypedDict, total=False):
    """A panel, or a row between panels (without targets)."""

    id: int
    type: str
    title: str
    description: str
    targets: list[Target]
    gridPos: dict[str, int]


class Variable(TypedDict, total=False):
    """A choice above the panels; `definition` is a ``label_values(…)``."""

    name: str
    type: str
    definition: str


def text() -> str:
    """The whole file."""
    return FILE.read_text(encoding="utf-8")


def panels() -> list[Panel]:
    """Panels and rows, from above."""
    return cast("list[Panel]", json.loads(text())["panels"])


def queries() -> list[tuple[str, str]]:
    """Title and expression of every query."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel.get("targets", [])]


def variables() -> list[Variable]:
    """The choices, in their order."""
    return cast("list[Variable]", json.loads(text())["templating"]["list"])


def filled(expression: str, values: Mapping[str, str]) -> str:
    """`expression` with the variables' `values`, as Grafana would send it."""
    for name, value in {**values, "__rate_interval": "1m"}.items():
        expression = expression.replace(f"${name}", value)
    return expression
