"""``connectors history``: what it shows, and its exit codes."""

from __future__ import annotations

import json

import pytest

from tests.commands.conftest import Cli
from worker.demo.tenants import demo_tenants
from worker.demo.vendors import DemoVendors


@pytest.fixture
def demo(cli: Cli, script: DemoVendors) -> Cli:
    """One demo tenant with its five connectors."""
    assert cli("tenants", "import", cli.write("t.yaml", json.dumps(demo_tenants(1, script.url)))).code == 0
    return cli


def test_the_history_tells_how_it_was_and_what_it_turned_to(demo: Cli, script: DemoVendors) -> None:
    demo("check", "slack", "--tenant", "acme-01")
    script.script.set("acme-01", "slack", "revoked")
    demo("check", "slack", "--tenant", "acme-01")
    ran = demo("history", "slack", "--tenant", "acme-01")
    assert ran.code == 0
    rows = [line.split() for line in ran.out.splitlines()]
    assert [row[:2] for row in rows[2:5]] == [["24", "h"], ["7", "d"], ["30", "d"]]
    assert [row[1:] for row in rows[-2:]] == [["unhealthy", "credential_rejected", "tenant"], ["healthy", "ok", "none"]]
    told = demo("history", "slack", "--tenant", "acme-01", "--json").json()
    assert (told["latency"]["count"], [turn["status"] for turn in told["transitions"]]) == (1, ["unhealthy", "healthy"])
    assert set(told["windows"]) == {"24h", "7d", "30d"}


def test_of_what_was_never_checked_there_is_none(demo: Cli) -> None:
    ran = demo("history", "slack", "--tenant", "acme-01")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (3, "", 1)
    assert demo("history", "slack", "--tenant", "acme-01", "--json").json()["since"] is None
    assert demo("history", "fax", "--tenant", "acme-01").code == 2


def test_without_redis_it_is_unknown(cli: Cli) -> None:
    cli.environment.setenv("REDIS_URL", "redis://127.0.0.1:1/1")
    assert cli("history", "slack", "--tenant", "acme").code == 3
