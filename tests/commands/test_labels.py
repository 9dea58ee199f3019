"""``connectors tenants label`` and ``named``."""

from __future__ import annotations

import pytest

from tests.commands.conftest import Cli
from worker.labels import opaque

GITHUB = '{"auth": {"type": "bearer", "token": "ghp_secret0001"}}'


@pytest.fixture
def acme(cli: Cli) -> Cli:
    assert cli("config", "set", "github", cli.write("c.json", GITHUB), "--tenant", "acme").code == 0
    return cli


def test_an_opaque_label_leads_back_to_its_tenant(acme: Cli) -> None:
    acme.environment.setenv("METRICS_TENANTS", "opaque")
    acme.environment.setenv("METRICS_TENANTS_KEY", "key")
    label = acme("tenants", "label", "acme").out.strip()
    assert label == opaque(b"key")("acme")
    assert acme("tenants", "named", label).out == "acme\n"


def test_a_label_of_another_key_leads_to_nobody(acme: Cli) -> None:
    acme.environment.setenv("METRICS_TENANTS", "opaque")
    acme.environment.setenv("METRICS_TENANTS_KEY", "key")
    ran = acme("tenants", "named", opaque(b"other")("acme"))
    assert (ran.code, ran.out) == (1, "")
    assert "METRICS_TENANTS_KEY" in ran.err


def test_a_plain_label_is_the_tenant_itself(acme: Cli) -> None:
    assert acme("tenants", "label", "acme").out == "acme\n"
    assert acme("tenants", "named", "acme").out == "acme\n"


def test_without_tenants_in_metrics_there_is_no_label(acme: Cli) -> None:
    acme.environment.setenv("METRICS_TENANTS", "off")
    for command in ("label", "named"):
        assert acme("tenants", command, "acme").code == 2
