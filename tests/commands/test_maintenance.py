"""``connectors maintenance``: announcing, listing and ending windows, and bad input."""

from __future__ import annotations

import pytest

from tests.commands.conftest import Cli

CONFIGURED = """\
tenants:
  acme:
    github: {auth: {type: bearer, token: ghp-a}}
"""


@pytest.fixture(autouse=True)
def _acme(cli: Cli) -> None:
    assert cli("tenants", "import", cli.write("acme.yaml", CONFIGURED)).code == 0


def test_a_window_is_announced_listed_and_ended(cli: Cli) -> None:
    ran = cli("maintenance", "add", "--connector", "github", "--for", "4h", "--note", "[b]upgrade[/b]", "--json")
    window = ran.json()
    assert (ran.code, window["connector"], window["tenant"]) == (0, "github", None)
    shown = cli("maintenance", "list").out
    assert "github of every tenant" in shown
    assert "[b]upgrade[/b]" in shown
    assert cli("maintenance", "end", window["id"]).code == 0
    assert cli("maintenance", "list", "--json").json() == []
    assert cli("maintenance", "end", window["id"]).code == 2


def test_a_note_tells_the_terminal_nothing(cli: Cli) -> None:
    cli("maintenance", "add", "--tenant", "acme", "--for", "4h", "--note", "\x1b]0;owned\x07\x1b[2J\x9b31mpwd\r\nthere")
    (window,) = cli("maintenance", "list", "--json").json()
    assert window["note"] == "]0;owned [2J 31mpwd there"


def test_a_window_may_begin_later(cli: Cli) -> None:
    ran = cli("maintenance", "add", "--tenant", "acme", "--from", "2099-01-01T22:00:00Z", "--for", "30m", "--json")
    assert (ran.json()["starts"], ran.json()["ends"]) == ("2099-01-01T22:00:00.000Z", "2099-01-01T22:30:00.000Z")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tenant", "acme"], "give either --for DURATION or --until TIME"),
        (["--tenant", "acme", "--for", "soon"], "--for soon: expected a number and s, m, h or d, such as 30m or 2d"),
        (["--tenant", "acme", "--until", "tomorrow"], "--until tomorrow: expected a time such as 2026-11-23T22:00:00Z"),
        (["--tenant", "acme", "--until", "2099-01-01T10:00:00"], "say which time zone"),
        (["--for", "1h"], "a maintenance window needs a connector, a tenant or both"),
        (["--tenant", "acme", "--for", "900d"], "more than 90 days"),
        (["--connector", "gitbub", "--for", "1h"], "no connector 'gitbub' is registered; there are: github"),
        (["--tenant", "acne", "--for", "1h"], "tenant acne has no configuration: `connectors tenants list`"),
        (["--tenant", "acme", "-c", "slack", "--for", "1h"], "tenant acme has no connector slack; it has: github"),
        (["--tenant", "not an id", "--for", "1h"], "tenant id 'not an id' is not valid"),
    ],
)
def test_bad_input_is_one_sentence(cli: Cli, options: list[str], says: str) -> None:
    ran = cli("maintenance", "add", *options)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert says in ran.err
    assert cli("maintenance", "list", "--json").json() == []
