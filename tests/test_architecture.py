"""The arrows of the house: who may import whom, and who may touch what."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [
    ROOT / "beat_schedule.py",
    *sorted((ROOT / "registry").rglob("*.py")),
    *sorted((ROOT / "worker").rglob("*.py")),
]


def test_imports_point_one_way() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("package", "home"),
    [
        (
            "google.cloud.firestore",
            ("registry/stores/firestore", "registry/audit/firestore.py", "registry/notes/firestore.py"),
        ),
        ("google.cloud.secretmanager", "registry/secrets/gcp.py"),
        ("google.cloud.monitoring", "worker/cloud_monitoring.py"),
        ("google.api.metric", "worker/cloud_monitoring.py"),
        ("google.api.distribution", "worker/cloud_monitoring.py"),
        ("grpc", "worker/cloud_monitoring.py"),
        ("celery", "worker"),
        ("sqlite3", ("registry/stores", "registry/audit/sqlite.py", "registry/notes/sqlite.py")),
        ("supervisor", "worker"),
    ],
)
def test_a_foreign_package_is_imported_in_its_one_home_only(package: str, home: str | tuple[str, ...]) -> None:
    strangers = {_name(file) for file in SOURCES for name in _imports(file) if _is_of(name, package)}
    assert {name for name in strangers if not name.startswith(home)} == set()


def test_the_environment_is_read_in_its_few_homes_only() -> None:
    readers = {_name(file) for file in SOURCES if any(_reads_environment(node) for node in _nodes(file))}
    assert readers - READERS - STARTERS == set()


READERS = {"registry/settings.py", "registry/secrets/env.py"}
STARTERS = {"worker/commands/up.py", "worker/local/environment.py", "worker/local/supervision.py"}
"""``connectors up`` hands its own environment on to the processes it starts."""


def test_importing_registry_loads_nothing_heavy() -> None:
    heavy = {"aiohttp", "celery", "cryptography", "google", "grpc", "pydantic", "redis", "structlog", "typer", "yaml"}
    assert _loaded_by_registry() & heavy == set()


def test_importing_registry_loads_none_of_its_modules() -> None:
    assert {name for name in _loaded_by_registry() if name.startswith(("registry.", "worker"))} == set()


def _loaded_by_registry() -> set[str]:
    """The modules that ``import registry`` adds to those an empty Python has."""
    code = "import sys; empty = set(sys.modules); import registry; print(*(set(sys.modules) - empty))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def _nodes(file: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(file.read_text(encoding="utf-8")))


def _imports(file: Path) -> Iterator[str]:
    for node in _nodes(file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_of(name: str, package: str) -> bool:
    """True for the package, what lies in it, and its versioned twin (``firestore_v1``)."""
    return f"{name}.".startswith((f"{package}.", f"{package}_"))


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id == "os" and node.attr in _ENVIRONMENT
    return isinstance(node, ast.ImportFrom) and node.module == "os" and any(a.name in _ENVIRONMENT for a in node.names)


_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()
