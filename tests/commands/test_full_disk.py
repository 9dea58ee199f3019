"""No room is left for the embedded store: one sentence, nothing half-written, and it works again when there is room."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.conftest import Cli

LIMITED = """
import resource, sys
from worker.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main(sys.argv[2:])
"""
"""No file may grow beyond so many bytes."""

AUTH = {"type": "bearer", "token": "ghp_something"}
MANY = {f"acme-{n}": {"github": {"auth": AUTH, "label": "x" * 60}} for n in range(200)}
IMPORT, SET = ("tenants", "import", "many.yaml"), ("config", "set", "github", "one.yaml", "--tenant", "acme-1")
BEFORE = {"acme-0": ["github"]}


@pytest.fixture
def store(cli: Cli) -> Cli:
    """A store that has one configuration."""
    cli.write("many.yaml", json.dumps({"tenants": MANY}))
    cli.write("one.yaml", json.dumps({"auth": AUTH, "label": "another"}))
    assert cli("config", "set", "github", "one.yaml", "--tenant", "acme-0").code == 0
    return cli


@pytest.mark.parametrize(("room", "command"), [(0, IMPORT), (60_000, IMPORT), (0, SET)])
def test_what_does_not_fit_is_not_there_at_all(store: Cli, room: int, command: tuple[str, ...]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(room), *command], capture_output=True, text=True, check=False
    )
    assert ran.returncode not in (0, 1)
    assert ran.stderr.splitlines()[-1].startswith("the configuration store"), ran.stderr
    assert "Traceback" not in ran.stderr
    assert store("tenants", "list", "--json").json() == BEFORE
    assert store(*command).code == 0
    assert len(store("tenants", "list", "--json").json()) > 1


@pytest.mark.parametrize(
    "command",
    [("tokens", "create"), ("tokens", "create", "--json"), ("tenants", "list"), ("tenants", "export"), ("list",)],
)
def test_an_answer_that_cannot_be_written_is_one_sentence(store: Cli, command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        started = [sys.executable, "-m", "worker.cli", *command]
        ran = subprocess.run(started, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    told = "the answer could not be written to stdout: No space left on device\n"
    assert (ran.returncode, ran.stderr) == (1, told)
    assert store("tokens", "list", "--json").out == "[]\n", "what nobody was told of is revoked"
