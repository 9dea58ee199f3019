"""The alert rules do what their unit tests tell, and each is told to fire, to keep silent, and to end."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.ops.rules import RULES, TESTS, Case, alerts, case_file, rules
from worker.families import FAMILIES

FILES = sorted(path.stem for path in RULES.glob("*.yml"))

ABOUT_PUSHES = {"ConnectorMonitorSilent", "ConnectorMonitorAbsent", "ConnectorPushRefused"}
"""Alerts that fire because of when was pushed."""


def ran(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def firing(case: Case) -> Iterator[tuple[str, str]]:
    for moment in case["alert_rule_test"]:
        for alert in moment["exp_alerts"]:
            yield moment["alertname"], alert["exp_labels"]["severity"]


def test_promtool_has_no_complaint(promtool: Path) -> None:
    ran(promtool, "check", "rules", "--lint-fatal", *sorted(RULES.glob("*.yml")))


@pytest.mark.parametrize("name", FILES)
def test_the_rules_do_what_their_tests_tell(name: str, promtool: Path) -> None:
    ran(promtool, "test", "rules", TESTS / f"{name}.yml")


def test_every_alert_is_seen_to_keep_silent_to_fire_and_to_end() -> None:
    shown = set()
    for name in FILES:
        for case in case_file(TESTS / f"{name}.yml")["tests"]:
            course = [bool(moment["exp_alerts"]) for moment in case["alert_rule_test"]]
            if course == [False, True, False]:
                shown |= set(firing(case))
    assert shown == {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()}


@pytest.mark.parametrize("name", FILES)
def test_a_dead_publishers_gauges_raise_no_alert(name: str, promtool: Path, tmp_path: Path) -> None:
    """The same series, but nothing is pushed after the beginning."""
    file = case_file(TESTS / f"{name}.yml")
    file["rule_files"] = [str(RULES / f"{name}.yml")]
    file["tests"] = [case for case in file["tests"] if not ABOUT_PUSHES & {alert for alert, _ in firing(case)}]
    assert file["tests"]
    for case in file["tests"]:
        for series in case["input_series"]:
            if series["series"].startswith("push_time_seconds"):
                series["values"] = "0x1000"
        for moment in case["alert_rule_test"]:
            moment["exp_alerts"] = []
    test = tmp_path / "dead.yml"
    test.write_text(yaml.safe_dump(file), encoding="utf-8")
    ran(promtool, "test", "rules", test)


@pytest.mark.parametrize("name", FILES)
def test_a_link_begins_with_where_the_operator_keeps_the_runbook(name: str, promtool: Path, tmp_path: Path) -> None:
    base, file = "https://git.example.com/connectors/blob/main/", case_file(TESTS / f"{name}.yml")
    file["rule_files"] = [str(RULES / f"{name}.yml")]
    for case in file["tests"]:
        case["external_labels"] = {"runbook_base": base}
        for alert in (alert for moment in case["alert_rule_test"] for alert in moment["exp_alerts"]):
            alert["exp_annotations"]["runbook_url"] = base + alert["exp_annotations"]["runbook_url"]
    test = tmp_path / "based.yml"
    test.write_text(yaml.safe_dump(file), encoding="utf-8")
    ran(promtool, "test", "rules", test)


def test_rules_ask_for_metrics_that_exist() -> None:
    for rule in rules():
        for name in re.findall(r"\bregistry_\w+", rule["expr"]):
            assert re.sub(r"_(bucket|count|sum)$", "", name) in FAMILIES, name


def test_every_alert_has_a_severity_and_says_whose_it_is() -> None:
    for rule in alerts():
        if rule["labels"]["scope"] == "inhibition":
            assert rule["labels"]["severity"] == "none", rule["alert"]
            continue
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["labels"]["scope"] in ("monitor", "platform", "vendor", "tenant"), rule["alert"]


def test_nobody_is_alerted_of_what_is_in_maintenance() -> None:
    for rule in alerts():
        if rule["labels"]["scope"] in ("tenant", "vendor"):
            assert 'registry_connector_maintenance{tenant_id="*"}' in rule["expr"], rule["alert"]
