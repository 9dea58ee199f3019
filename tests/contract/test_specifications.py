"""The tools of the contract tests: they find what is wrong, and pin what they are made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.specifications import SOURCES, Specification, told

HERE = Path(__file__).parent
RATE = {"limit": 60, "remaining": 59, "reset": 1_790_000_000, "used": 1}
OVERVIEW = {"resources": {"core": RATE, "search": RATE}, "rate": RATE}


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (OVERVIEW, []),
        (OVERVIEW | {"resources": {"core": RATE}}, ["$.resources: 'search' is a required property"]),
        (OVERVIEW | {"rate": RATE | {"reset": "soon"}}, ["$.rate.reset: 'soon' is not of type 'integer'"]),
    ],
)
def test_a_body_is_held_against_its_schema(contracts: Path, body: object, wrong: list[str]) -> None:
    github = Specification(contracts / "github.json")
    schema = github.schema("GET", "/rate_limit", 200)
    assert schema
    assert github.violations(schema, json.dumps(body).encode()) == wrong


@pytest.mark.parametrize(
    ("file", "method", "path", "status", "described"),
    [
        ("github.json", "GET", "/rate_limit", 200, True),
        ("github.json", "GET", "/rate_limit", 404, True),
        ("github.json", "GET", "/rate_limit", 401, False),
        ("github.json", "POST", "/rate_limit", 200, False),
        ("github.json", "POST", "/app/installations/7/access_tokens", 201, True),
        ("github.json", "GET", "/app/installations/7/8", 200, False),
        ("gitlab.json", "GET", "/api/v4/version", 200, True),
        ("gitlab.json", "GET", "/api/v4/version", 401, False),
        ("slack.json", "GET", "/auth.test", "default", True),
        ("vertex.json", "GET", "/v1/projects/p/locations/l", 503, True),
    ],
)
def test_an_answer_is_found_by_its_operation_and_status(
    contracts: Path, file: str, method: str, path: str, status: int | str, described: bool
) -> None:
    specification = Specification(contracts / file)
    schema = specification.schema(method, path, status)
    assert (schema is not None) is described
    if schema:
        assert specification.violations(schema, b"[]") != []


def test_where_to_take_the_specifications_from_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONTRACTS_DIR", str(tmp_path))
    assert "CONTRACTS_DIR" in next(iter(told()))
    for name in SOURCES:
        (tmp_path / name).touch()
    assert str(tmp_path) in next(iter(told()))
    assert len(list(told())) == 1 + len(SOURCES)


def test_prisms_lock_pins_every_package_by_hash_and_names_no_registry() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert "node_modules/@stoplight/prism-cli" in packages
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
