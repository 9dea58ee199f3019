"""``connectors tenants`` and ``config``: one configuration, one tenant."""

from __future__ import annotations

import json

import pytest

from tests.commands.conftest import Cli

GITHUB = '{"auth": {"type": "bearer", "token": "ghp_secret0001"}, "label": "main"}'


@pytest.fixture
def acme(cli: Cli) -> Cli:
    assert cli("config", "set", "github", cli.write("c.json", GITHUB), "--tenant", "acme").code == 0
    return cli


def test_what_is_set_can_be_read_back_without_its_secret(acme: Cli) -> None:
    shown = acme("config", "get", "github", "--tenant", "acme", "--json")
    assert shown.json()["label"] == "main"
    assert shown.json()["auth"]["token"].startswith("enc://")
    assert "ghp_secret0001" not in shown.out + acme("tenants", "show", "acme").out


def test_what_get_prints_is_what_set_reads(acme: Cli) -> None:
    acme.write("again.yaml", acme("config", "get", "github", "--tenant", "acme").out)
    assert "revision 2" in acme("config", "set", "github", "again.yaml", "--tenant", "acme").out


def test_a_write_over_another_revision_is_refused(acme: Cli) -> None:
    ran = acme("config", "set", "github", "c.json", "--tenant", "acme", "--expected", "7")
    assert (ran.code, "expected 7" in ran.err) == (2, True)
    assert acme("tenants", "show", "acme", "--json").json()[0]["revision"] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("config", "get", "github", "--tenant", "ghost"), "tenant ghost has no configuration"),
        (("config", "get", "github", "--tenant", "no good"), "tenant id 'no good' is not valid"),
        (("config", "set", "nope", "c.json", "--tenant", "acme"), "no connector 'nope' is registered"),
        (("config", "set", "github", "missing.json", "--tenant", "acme"), "missing.json: cannot be read"),
        (("tenants", "show", "ghost"), "tenant ghost has no configuration"),
        (("tenants", "delete", "ghost", "--yes"), "tenant ghost is not known here"),
        (("check", "nope", "--tenant", "acme"), "no connector 'nope' is registered"),
        (("check", "slack", "--tenant", "acme"), "tenant acme has no connector slack"),
        (("health", "--tenant", "*"), "tenant id '*' is not valid"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(acme: Cli, arguments: tuple[str, ...], told: str) -> None:
    ran = acme(*arguments)
    assert ran.code == 2
    assert told in ran.err
    assert len(ran.err.splitlines()) == 1


def test_an_unknown_option_is_a_usage_error(cli: Cli) -> None:
    assert cli("health", "--nope").code == 2


def test_a_setting_that_cannot_be_used_is_named_without_its_content(cli: Cli) -> None:
    cli.environment.setenv("SHARDS", "many-secret")
    ran = cli("health")
    assert (ran.code, "SHARDS" in ran.err, "many-secret" in ran.err) == (2, True, False)


def test_deleting_asks_first(acme: Cli) -> None:
    assert "add --yes" in acme("tenants", "delete", "acme").err
    assert "add --yes" in acme("config", "delete", "github", "--tenant", "acme").err
    assert acme("config", "delete", "github", "--tenant", "acme", "--yes").code == 0
    assert acme("tenants", "list", "--json").json() == {}


def test_deleting_a_tenant_takes_all_its_connectors_out_of_the_schedule(acme: Cli) -> None:
    acme("config", "set", "slack", acme.write("s.json", json.dumps(json.loads(GITHUB))), "--tenant", "acme")
    assert "with 2 configurations" in acme("tenants", "delete", "acme", "--yes").out
    gone = acme("health", "--tenant", "acme", "--json")
    assert (gone.code, gone.json()) == (3, [])
