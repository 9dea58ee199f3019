"""The dashboard as data; that every panel shows something is seen in ``tests/e2e/test_alert_chain.py``."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import yaml

from tests.ops.dashboard import filled, panels, queries, text, variables
from tests.ops.rules import ROOT, rules
from worker.families import FAMILIES

RECORDED = {rule["record"] for rule in rules() if "record" in rule}
OTHERS = {"push_time_seconds", "ALERTS"}
CHOICES = {"job": "j", "connector": "c", "tenant": "t"}


@pytest.mark.parametrize(("title", "query"), queries())
def test_a_panel_asks_for_metrics_that_exist(title: str, query: str) -> None:
    for name in re.findall(r"\b([a-zA-Z_:]+)(?=[{\[])", query):
        plain = re.sub(r"_(bucket|count|sum)$", "", name)
        assert plain in {*FAMILIES, *RECORDED, *OTHERS}, f"{title}: {name}"


@pytest.mark.parametrize(("title", "query"), queries())
def test_a_panel_believes_only_what_was_pushed_lately(title: str, query: str) -> None:
    if "ALERTS" not in query and title != "Since the last push":
        assert query.count("push_time_seconds") >= len(re.findall(r"\b(?:registry_|connector:)", query)), title


def test_every_variable_of_a_query_is_a_choice() -> None:
    assert [variable["name"] for variable in variables()] == ["datasource", *CHOICES]
    assert [query for _, query in queries() if "$" in filled(query, CHOICES)] == []


def test_panels_have_numbers_of_their_own_and_say_what_they_show() -> None:
    assert max(Counter(panel["id"] for panel in panels()).values()) == 1
    assert all(panel.get("description") for panel in panels() if panel["type"] != "row")


def test_panels_do_not_overlap() -> None:
    places: Counter[tuple[int, int]] = Counter()
    for panel in panels():
        at = panel["gridPos"]
        columns, lines = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        places.update((x, y) for x in columns for y in lines)
    assert max(places.values()) == 1
    assert max(x for x, _ in places) < 24


def test_one_gets_from_the_overview_to_a_connector_and_to_a_tenant() -> None:
    titles = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert titles == ["Overview: $job", "The monitor itself", "Connector: $connector", "Tenant: $tenant"]
    links = set(re.findall(r"/d/([\w-]+)\?[^\"]*&var-(\w+)=\$\{__value.raw\}", text()))
    assert links == {("connector-health", "connector"), ("connector-health", "tenant")}
    assert '"uid": "connector-health"' in text()


def test_it_is_provisioned_where_compose_mounts_it() -> None:
    provider = yaml.safe_load((ROOT / "ops/grafana/provisioning/dashboards/connectors.yml").read_text(encoding="utf-8"))
    path = provider["providers"][0]["options"]["path"]
    stack = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert f"./ops/grafana/dashboards:{path}:ro" in stack["services"]["grafana"]["volumes"]
