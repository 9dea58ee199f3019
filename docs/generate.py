"""Writes the tables in ``docs/`` that come from the code: ``python docs/generate.py``, or ``--check`` to compare only.

Each page is a function without arguments that returns the page's whole text; `PAGES` names its file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from verdicts_page import verdicts_page

from registry.bootstrap import assemble
from registry.settings import Settings
from registry.web.app import create_app
from worker.families import FAMILIES

DOCS = Path(__file__).parent


def settings_page() -> str:
    """Every setting of `registry.settings.Settings`: variable, default, meaning."""
    rows = [_setting(name, field) for name, field in Settings.model_fields.items()]
    return "\n".join(
        [
            "# Settings",
            "",
            "Each is an environment variable. What the environment leaves open is read from `.run/env`, then from the",
            "defaults here. Generated from `registry/settings.py` by `make docs`.",
            "",
            "| variable | default | values | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def metrics_page() -> str:
    """Every family of `worker.families`: name, type, labels, meaning, number of series."""
    rows = [
        (f"`{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels), each.meaning, each.series)
        for each in FAMILIES.values()
    ]
    return "\n".join([_METRICS, *(f"| {' | '.join(row)} |" for row in rows), ""])


_METRICS = """\
# Metrics

The publisher pushes them to the Pushgateway: the pairs in `PUSH_GROUPS` groups (`job="connector_health"`, `shard="0"`,
…), the system itself in one (`shard="platform"`), each replaced as a whole: what is removed is gone at the next push.
`connectors metrics` serves the same at `/metrics`, without `job` and `shard`. Times are Unix seconds.

A gauge on the Pushgateway outlives its publisher, so it means something only while its group's `push_time_seconds` is
recent: every rule in [ops/prometheus/rules](../ops/prometheus/rules) asks for that. What each alert means is in the
[runbook](runbook.md). Generated from `worker/families.py` by `make docs`.

| name | type | labels | meaning | series |
|---|---|---|---|---|"""


def openapi_page() -> str:
    """The API's own description of itself."""
    app = create_app(assemble(Settings.model_validate({"config_store": "memory", "audit": "memory"})))
    return json.dumps(app.openapi(), indent=1, sort_keys=True) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "verdicts.md": verdicts_page,
    "metrics.md": metrics_page,
    "openapi.json": openapi_page,
}


def stale() -> list[str]:
    """The pages whose file is not what the code says."""
    return [name for name, page in PAGES.items() if not _same(DOCS / name, page())]


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` name those to be written; returns the exit code."""
    if arguments == ["--check"]:
        names = stale()
        if names:
            sys.stderr.write(f"out of date, run `make docs`: {', '.join(names)}\n")
        return 1 if names else 0
    if arguments:
        sys.stderr.write("usage: python docs/generate.py [--check]\n")
        return 2
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
    return 0


def _same(file: Path, text: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8") == text


def _setting(name: str, field: FieldInfo) -> str:
    cells = (f"`{name.upper()}`", _default(field), _values(field), field.description or "")
    return " | ".join(["", *(cell.replace("|", r"\|") for cell in cells), ""]).strip()


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value in ((), {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(field: FieldInfo) -> str:
    kind = _plain(field.annotation)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    rules = field.metadata
    bounds = [f"{sign} {getattr(rule, key):g}" for rule in rules for key, sign in _BOUNDS if hasattr(rule, key)]
    return ", ".join([_KINDS.get(kind, "text"), *bounds])


def _plain(kind: object) -> object:
    """`kind` without ``None`` and without ``Annotated``."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return _plain(next(part for part in get_args(kind) if part is not type(None)))
    return kind


_BOUNDS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
_KINDS: Mapping[object, str] = {int: "whole number", float: "number", bool: "`true`, `false`", Path: "path"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
