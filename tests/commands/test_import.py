"""``connectors tenants import``: everything is validated first, then written all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import yaml

from registry.bootstrap import Parts
from registry.ids import Pair
from tests.commands.conftest import Cli
from worker.commands import plan
from worker.commands.plan import Action, make_plan
from worker.commands.tenants_file import TenantsFile
from worker.local.run import _is_of_demo

TWO = """\
tenants:
  acme:
    github: {auth: {type: bearer, token: ghp_secret0001}, label: main}
    slack: {auth: {type: bearer, token: env://SLACK}}
"""
SECRETS = ("ghp_secret0001", "ghp_other0002", "xoxb-fromenv")


@pytest.fixture
def slack(cli: Cli) -> Cli:
    cli.environment.setenv("CONNECTOR_SECRET_acme__SLACK", "xoxb-fromenv")
    return cli


def test_a_dry_run_shows_the_plan_and_writes_nothing(slack: Cli) -> None:
    ran = slack("tenants", "import", slack.write("t.yaml", TWO), "--dry-run")
    assert ran.code == 0
    assert "+ acme github: added" in ran.out
    assert "nothing was written" in ran.out
    assert slack("tenants", "list", "--json").json() == {}


def test_an_import_is_stored_and_scheduled_at_once(slack: Cli) -> None:
    assert slack("tenants", "import", slack.write("t.yaml", TWO)).code == 0
    assert slack("tenants", "list", "--json").json() == {"acme": ["github", "slack"]}
    rows = slack("health", "--tenant", "acme", "--json").json()
    assert {row["connector"]: row["reason"] for row in rows} == {"github": "not_checked", "slack": "not_checked"}


def test_what_was_exported_is_imported_without_a_change_though_some_of_it_does_not_show(slack: Cli) -> None:
    label = "👩\u200d💻 co\u00adop"
    slack(
        "tenants",
        "import",
        slack.write("t.yaml", TWO.replace("label: main", f"label: {json.dumps(label, ensure_ascii=False)}")),
    )
    exported = slack("tenants", "export").out
    assert yaml.safe_load(exported)["tenants"]["acme"]["github"]["label"] == label
    assert "0 added, 0 changed, 2 unchanged" in slack("tenants", "import", slack.write("e.yaml", exported)).out


async def test_a_demo_takes_out_its_own_leftovers_and_nobodys_tenants(parts: Parts) -> None:
    leftover, own = Pair("slack", "acme-07"), Pair("slack", "globex")
    for pair in (leftover, own):
        await parts.configurations.set(pair, {"auth": {"type": "bearer", "token": "xoxb-1"}}, actor="ann")
    made = await make_plan(parts, TenantsFile("the demo", []), prune=_is_of_demo)
    assert [step.pair for step in made.of(Action.REMOVED)] == [leftover]


def test_a_second_import_of_the_same_file_writes_nothing(slack: Cli) -> None:
    file = slack.write("t.yaml", TWO)
    slack("tenants", "import", file)
    assert "0 added, 0 changed, 2 unchanged" in slack("tenants", "import", file).out
    assert [row["revision"] for row in slack("tenants", "show", "acme", "--json").json()] == [1, 1]


def test_the_diff_tells_each_changed_field_and_no_secret(slack: Cli) -> None:
    slack("tenants", "import", slack.write("t.yaml", TWO))
    changed = TWO.replace("ghp_secret0001", "ghp_other0002").replace("label: main", "label: spare, interval: 30")
    changed = changed.replace("env://SLACK", "file://slack")
    folder = slack.directory / "secrets" / "acme"
    folder.mkdir(parents=True)
    (folder / "slack").write_text("xoxb-fromenv")
    ran = slack("tenants", "import", slack.write("t2.yaml", changed), "--dry-run")
    assert "label: main → spare" in ran.out
    assert "interval: (none) → 30.0" in ran.out
    assert "auth.token: (another secret)" in ran.out
    assert "auth.token: env://SLACK → file://slack" in ran.out
    assert not [secret for secret in SECRETS if secret in ran.out + ran.err]


def test_prune_removes_what_the_file_leaves_out_and_only_after_a_yes(slack: Cli) -> None:
    slack("tenants", "import", slack.write("t.yaml", TWO))
    less = slack.write("less.yaml", "tenants: {acme: {slack: {auth: {type: bearer, token: env://SLACK}}}}")
    assert "1 removed" not in slack("tenants", "import", less).out
    refused = slack("tenants", "import", less, "--prune")
    assert (refused.code, "add --yes" in refused.err) == (2, True)
    assert "- acme github: removed" in slack("tenants", "import", less, "--prune", "--yes").out
    assert slack("tenants", "list", "--json").json() == {"acme": ["slack"]}
    assert [row["connector"] for row in slack("health", "--tenant", "acme", "--json").json()] == ["slack"]


@pytest.fixture
def elsewhere(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Somebody else changes a connector of acme between an import's plan and its writing."""
    carry_out = plan.carry_out

    def change(connector: str) -> None:
        async def late(parts: Parts, made: plan.Plan, *, actor: str) -> bool:
            urgent = {"auth": {"type": "bearer", "token": "urgent-1"}}
            await parts.configurations.set(Pair(connector, "acme"), urgent, actor="somebody")
            return await carry_out(parts, made, actor=actor)

        monkeypatch.setattr(plan, "carry_out", late)

    return change


def actors(cli: Cli) -> dict[str, str]:
    return {row["connector"]: row["actor"] for row in cli("tenants", "show", "acme", "--json").json()}


def test_what_somebody_changed_meanwhile_is_not_overwritten(slack: Cli, elsewhere: Callable[[str], None]) -> None:
    slack("tenants", "import", slack.write("t.yaml", TWO))
    before = actors(slack)
    elsewhere("github")
    ran = slack("tenants", "import", slack.write("t.yaml", TWO.replace("ghp_secret0001", "ghp_other0002")))
    assert (ran.code, "read it again and retry" in ran.err) == (2, True)
    assert actors(slack) == {**before, "github": "somebody"}


def test_what_was_written_before_a_conflict_is_told(slack: Cli, elsewhere: Callable[[str], None]) -> None:
    slack("tenants", "import", slack.write("t.yaml", TWO))
    elsewhere("slack")
    one = slack.write("one.yaml", "tenants: {acme: {github: {auth: {type: bearer, token: ghp_other0002}}}}")
    ran = slack("tenants", "import", one, "--prune", "--yes")
    assert (ran.code, "1 were written and 0 removed before that" in ran.err) == (1, True)
    assert actors(slack)["slack"] == "somebody"


def test_every_problem_of_a_file_is_told_with_its_line_and_nothing_is_written(cli: Cli) -> None:
    file = cli.write(
        "many.yaml",
        """\
tenants:
  "bad id!":
    github: {auth: {type: bearer, token: env://X}}
  acme:
    nope: {auth: {type: bearer, token: env://X}}
    github: {auth: {type: bearer, token: env://MISSING}}
    gitlab: {auth: {type: bearer}, base_url: "ftp://x"}
    linear: {auth: {type: bearer, token: lin_api_good}}
    slack: {auth: {type: bearer, token: xoxb-one}}
    slack: {auth: {type: bearer, token: xoxb-two}}
  123:
    linear: nothing
extra: 1
""",
    )
    ran = cli("tenants", "import", file)
    assert ran.code == 2
    lines = {int(row.split(":")[1]): row for row in ran.err.splitlines()}
    assert set(lines) == {2, 5, 6, 7, 10, 11, 12, 13}
    assert "tenant id 'bad id!' is not valid" in lines[2]
    assert "no connector 'nope' is registered" in lines[5]
    assert "CONNECTOR_SECRET_acme__MISSING" in lines[6]
    assert "auth.bearer.token" in lines[7]
    assert "base_url: must be an absolute http(s) URL" in lines[7]
    assert "'slack' stands twice, first in line 9" in lines[10]
    assert "put it in quotes" in lines[11]
    assert "expected a configuration" in lines[12]
    assert "unknown key 'extra'" in lines[13]
    assert cli("tenants", "list", "--json").json() == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tenants: [", "f.yaml:2: not valid YAML"),
        ("a: &a [1]\nb: *a\n", "f.yaml:2: aliases"),
        ("tenants: " + "[" * 50_000, "nested deeper than"),
        ("tenants: !!python/object/apply:os.system [id]\n", "f.yaml:1: tags"),
        ("tenants: {acme: {github: {auth: !!python/name:os.system x}}}\n", "f.yaml:1: tags"),
        ("tenants:\n acme: {github: {auth: !!bool abc}}\n", "f.yaml:2: tags (tag:yaml.org,2002:bool) are not accepted"),
        ("tenants:\n acme: {github: {auth: !!timestamp x}}\n", "f.yaml:2: tags"),
        (f"tenants:\n acme: {{github: {{auth: !!int '{'1:' * 9}1'}}}}\n", "f.yaml:2: tags"),
        ("tenants:\n acme:\n  github:\n   auth: {}\n   label: 2026-13-45\n", "f.yaml:5: a value cannot be read: month"),
        ("? [a, b]\n: c\n", "expected a name as key"),
        ("- tenants\n", "f.yaml:1: expected a mapping"),
        ("tenants: {acme: {}}\n---\ntenants: {}\n", "another document"),
    ],
)
def test_a_file_that_is_no_tenants_file_is_refused_in_a_sentence(cli: Cli, text: str, told: str) -> None:
    ran = cli("tenants", "import", cli.write("f.yaml", text))
    assert ran.code == 2
    assert told in ran.err


def test_a_file_that_cannot_be_read_is_refused(cli: Cli) -> None:
    assert "cannot be read" in cli("tenants", "import", "missing.yaml").err
    (cli.directory / "latin1.yaml").write_bytes(b"tenants: \xe9")
    assert "not UTF-8" in cli("tenants", "import", "latin1.yaml").err
    (cli.directory / "huge.yaml").write_bytes(b"#" * (8 * 1024 * 1024 + 1))
    ran = cli("tenants", "import", "huge.yaml")
    assert (ran.code, "larger than" in ran.err) == (2, True)


def test_a_clear_secret_without_a_place_to_keep_it_is_refused(cli: Cli) -> None:
    cli.environment.setenv("ENCRYPTION_KEYS", "")
    ran = cli("tenants", "import", cli.write("t.yaml", "tenants: {a1: {github: {auth: {type: bearer, token: ghp_x}}}}"))
    assert ran.code == 2
    assert "t.yaml:1: tenant a1, connector github: auth.token is a clear secret" in ran.err


def test_an_export_holds_references_only_and_is_imported_unchanged(slack: Cli) -> None:
    slack("tenants", "import", slack.write("t.yaml", TWO))
    exported = slack("tenants", "export").out
    assert not [secret for secret in SECRETS if secret in exported]
    assert yaml.safe_load(exported)["tenants"]["acme"]["slack"]["auth"]["token"] == "env://SLACK"
    assert "2 unchanged" in slack("tenants", "import", slack.write("back.yaml", exported)).out


def test_an_import_without_redis_is_stored_and_says_that_checks_come_later(slack: Cli) -> None:
    slack.environment.setenv("REDIS_URL", "redis://127.0.0.1:1/1")
    ran = slack("tenants", "import", slack.write("t.yaml", TWO))
    assert (ran.code, "as soon as the system runs" in ran.err) == (0, True)
    assert slack("tenants", "list", "--json").json() == {"acme": ["github", "slack"]}
