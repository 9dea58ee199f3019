"""docs/api.md tells of every route, right and problem that there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from registry.roles import RIGHTS, Right, Role
from registry.web import problems

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
OPENAPI = json.loads((ROOT / "docs/openapi.json").read_text(encoding="utf-8"))

ROUTES = [(method.upper(), path) for path, methods in OPENAPI["paths"].items() for method in methods]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_is_described(method: str, path: str) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and path in re.findall(r"[^\s`,|]+", line)]
    assert any(method in row for row in rows)


def test_no_other_route_is_described() -> None:
    told = {path for line in PAGE.splitlines() if line.startswith("| `") for path in re.findall(r" (/[^\s`]+)`", line)}
    assert told - {path for _, path in ROUTES} == {"/badge/{connector}.svg"}, "which is a picture, not in the schema"


def test_the_rights_of_the_roles_are_those_of_the_table() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[2:5]] for line in PAGE.splitlines() if re.search(r"\| yes \|$", line)
    ]
    assert len(rows) == len(Right)
    for at, role in enumerate(Role):
        assert [row[at] for row in rows].count("yes") == len(RIGHTS[role])


def test_every_code_of_a_problem_is_described() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(problems.__file__).parent.rglob("*.py")]
    codes = {code for text in sources for code in re.findall(r"Problem\(\s*\d{3},\s*\"(\w+)\"", text)}
    codes |= {code for _, _, code in problems._STATUS}
    rare = {"internal", "no_metrics", "unhealthy", "connector_incompatible"}
    assert {code for code in codes if f"`{code}`" not in PAGE} <= rare
