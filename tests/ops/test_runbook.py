"""Each alert leads to a section that exists, and each command told there can be typed."""

from __future__ import annotations

import re
import shlex

import pytest
import typer.main

from tests.ops.rules import ROOT, alerts
from worker.cli import app

BASE = "{{ $externalLabels.runbook_base }}"
PAGE = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = sorted(set(re.findall(r"^ *(connectors .*)$|`(connectors [^`]+)`", PAGE, re.MULTILINE)))
NAMES = sorted({rule["alert"] for rule in alerts()})


def anchor(title: str) -> str:
    """GitHub's: https://docs.github.com/en/get-started/writing-on-github/section-links"""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


ANCHORS = {anchor(title) for title in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_what_is_the_matter_and_leads_to_its_section(rule: dict[str, dict[str, str]]) -> None:
    notes = rule["annotations"]
    assert notes["summary"]
    assert notes["description"].endswith(".")
    assert notes["runbook_url"].startswith(BASE)
    page, _, section = notes["runbook_url"].removeprefix(BASE).partition("#")
    assert (ROOT / page).read_text(encoding="utf-8") == PAGE
    assert section == anchor(str(rule["alert"]))
    assert section in ANCHORS


def test_there_is_no_section_without_an_alert() -> None:
    assert sorted(SECTIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_section_tells_meaning_harm_confirmation_and_remedy(name: str) -> None:
    told = re.findall(r"^- \*\*(\w+)\*\*: *\S?", SECTIONS[name], re.MULTILINE)
    assert told == ["Means", "Hurts", "Confirm", "Do"]
    assert re.search(r"^  ```sh\n(  connectors .*\n)+  ```$", SECTIONS[name], re.MULTILINE)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", PAGE))))
def test_a_link_of_the_page_leads_somewhere(target: str) -> None:
    path, _, section = target.partition("#")
    assert (ROOT / "docs" / path).exists()
    assert path or section in ANCHORS


@pytest.mark.parametrize("line", [block or inline for block, inline in COMMANDS])
def test_a_command_of_the_page_can_be_typed(line: str) -> None:
    words = [word for word in shlex.split(line)[1:] if word not in ("…", "...")]
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(line, words)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([A-Z]+_[A-Z_]+)`", PAGE))))
def test_a_setting_of_the_page_exists(name: str) -> None:
    from registry.settings import Settings

    assert name.lower() in Settings.model_fields
