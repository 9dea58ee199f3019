"""From a vendor that breaks to the message a person reads: the real system, Pushgateway, Prometheus and Alertmanager.

The rules and configurations are those in ``ops/``; only durations are shorter, by the same factor, and addresses the
tests' own.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, TypedDict, cast
from urllib.parse import urlencode

import pytest
import yaml

from tests.e2e.test_up import CONNECTORS, TENANTS, System, started
from tests.fixtures_prometheus import MEMORY_ONLY, fetched, running
from tests.ops.dashboard import filled, queries, variables
from tests.ops.rules import ROOT, RULES
from tests.waiting import eventually

FASTER = 24
"""How many times shorter a rule's durations are."""

RUNBOOK_BASE = "https://git.example.com/blob/main/"
PACE = {"SHARDS": "2", "INCIDENT_WINDOW": "10", "INCIDENTS_EVERY": "1", "FRESH_GRACE": "30"}

Labels = dict[str, str]


class Row(TypedDict):
    """One row of Prometheus' answer: the series, and when it has which value."""

    metric: Labels
    value: tuple[float, str]


class Inbox(BaseHTTPRequestHandler):
    """What a Slack-compatible webhook is sent: by path, titles and texts."""

    messages: ClassVar[list[tuple[str, str, str]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for part in body["attachments"]:
            self.messages.append((self.path, part["title"], part["text"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        pass


@dataclass
class Chain:
    """Everything that runs, by its address."""

    system: System
    prometheus: str
    alertmanager: str

    def query(self, expression: str) -> list[Row]:
        answer = json.loads(fetched(f"{self.prometheus}/api/v1/query?{urlencode({'query': expression})}"))
        return cast("list[Row]", answer["data"]["result"])

    def number(self, expression: str) -> float | None:
        """The value of an expression that has one at most."""
        return next((float(row["value"][1]) for row in self.query(expression)), None)

    def firing(self, name: str, **labels: str) -> bool:
        wanted = {"alertname": name, "alertstate": "firing", **labels}
        return bool(self.query(f"ALERTS{{{','.join(f'{key}={json.dumps(text)}' for key, text in wanted.items())}}}"))

    def held_back(self, name: str, connector: str) -> set[str]:
        """The tenants whose alert has reached Alertmanager and is held back there."""
        found = json.loads(fetched(f"{self.alertmanager}/api/v2/alerts"))
        ours = [alert for alert in found if alert["status"]["inhibitedBy"] and alert["labels"]["alertname"] == name]
        return {alert["labels"]["tenant_id"] for alert in ours if alert["labels"]["connector"] == connector}

    def values(self, definition: str) -> set[str]:
        """What Grafana would offer for a variable's ``label_values(selector, label)``."""
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", definition)
        assert match is not None, definition
        rows = json.loads(fetched(f"{self.prometheus}/api/v1/series?{urlencode({'match[]': match[1]})}"))["data"]
        return {row[match[2]] for row in rows if match[2] in row}


def told(path: str, title: str, *parts: str) -> bool:
    """Has such a message come?"""
    return any(
        (where, what) == (path, title) and all(part in text for part in parts) for where, what, text in Inbox.messages
    )


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    directory = tmp_path_factory.mktemp("chain")
    with ExitStack() as running_now:
        inbox = ThreadingHTTPServer(("127.0.0.1", 0), Inbox)
        running_now.callback(inbox.server_close)
        running_now.callback(inbox.shutdown)
        threading.Thread(target=inbox.serve_forever, daemon=True).start()
        pushgateway = running_now.enter_context(running("prometheus-pushgateway", MEMORY_ONLY, directory=directory))
        system = started(tmp_path_factory.mktemp("up"), PUSHGATEWAY_URL=pushgateway, **PACE)
        running_now.callback(ended, system)
        alerting(directory, f"http://127.0.0.1:{inbox.server_port}")
        quiet = ("--config.file=alertmanager.yml", "--storage.path=am", "--cluster.listen-address=")
        alertmanager = running_now.enter_context(running("prometheus-alertmanager", *quiet, directory=directory))
        scraping(directory, {"pushgateway:9091": pushgateway, "alertmanager:9093": alertmanager})
        options = ("--config.file=prometheus.yml", "--storage.tsdb.path=tsdb")
        prometheus = running_now.enter_context(running("prometheus", *options, directory=directory))
        yield Chain(system, prometheus, alertmanager)


def ended(system: System) -> None:
    if system.process.poll() is None:
        system.run("down")
        system.process.terminate()  # one that has only begun is not known to `down` yet
        system.process.wait()


def alerting(directory: Path, inbox: str) -> None:
    """Alertmanager's configuration: groups are told of at once, at the tests' own addresses."""
    text = (ROOT / "ops/alertmanager/alertmanager.yml").read_text(encoding="utf-8")
    text = re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", text)
    (directory / "alertmanager.yml").write_text(text, encoding="utf-8")
    (directory / "secrets").mkdir()
    for name in ("on_call", "support"):
        (directory / "secrets" / f"{name}_url").write_text(f"{inbox}/{name}", encoding="utf-8")


def scraping(directory: Path, addresses: Labels) -> None:
    """Prometheus' configuration, looking every second, and the rules, hastened."""
    text = (ROOT / "ops/prometheus/prometheus.yml").read_text(encoding="utf-8")
    text = re.sub(r"(scrape_interval|evaluation_interval): \w+", r"\1: 1s", text)
    for name, url in addresses.items():
        assert name in text
        text = text.replace(name, url.removeprefix("http://"))
    assert 'runbook_base: ""' in text
    text = text.replace('runbook_base: ""', f"runbook_base: {RUNBOOK_BASE}")
    (directory / "prometheus.yml").write_text(text, encoding="utf-8")
    (directory / "rules").mkdir()
    for path in RULES.glob("*.yml"):
        (directory / "rules" / path.name).write_text(hastened(path.read_text(encoding="utf-8")), encoding="utf-8")


def hastened(rules: str) -> str:
    """`rules` with shorter `for` and `interval`, and shorter ages in comparisons: ``> 120`` seconds and the like."""
    rules = re.sub(r"interval: (\d+)s", lambda found: f"interval: {int(found[1]) // FASTER}s", rules)
    rules = re.sub(r"for: (\d+)m", lambda found: f"for: {int(found[1]) * 60 // FASTER}s", rules)
    return re.sub(r"([<>]) (\d{3,4})\b", lambda found: f"{found[1]} {int(found[2]) // FASTER}", rules)


def test_the_shorter_rules_differ_in_durations_only() -> None:
    for path in RULES.glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        for before, after in zip(yaml.safe_load(text)["groups"], yaml.safe_load(hastened(text))["groups"], strict=True):
            for was, is_ in zip(before["rules"], after["rules"], strict=True):
                assert {key for key in was if was[key] != is_[key]} <= {"expr", "for"}
                assert re.sub(r"\d+", "", was["expr"]) == re.sub(r"\d+", "", is_["expr"])


def test_a_vendors_incident_is_told_once_and_holds_its_tenants_alerts_back(chain: Chain) -> None:
    everybody, health = float(len(TENANTS) * len(CONNECTORS)), 'registry_connector_health{tenant_id!="*"}'
    eventually("all are pushed", lambda: chain.number(f"count({health})") == everybody)
    eventually("all are healthy", lambda: chain.number(f"count({health} == 1)") == everybody)
    chain.system.play("acme-02", "gitlab", "error_503")
    chain.system.play("*", "github", "error_503")

    firing, link = "FIRING ConnectorVendorIncident github", f"{RUNBOOK_BASE}docs/runbook.md#connectorvendorincident"
    eventually("the incident is told", lambda: told("/on_call", firing, "gives no usable answer", link))
    eventually(
        "the tenants' alerts are held back",
        lambda: chain.held_back("ConnectorTenantFailing", "github") == set(TENANTS),
    )
    eventually(
        "another vendor's tenant is not",
        lambda: told("/support", "FIRING ConnectorTenantFailing gitlab", "gitlab of acme-02", "vendor_error"),
    )


def test_prometheus_as_the_readme_starts_it_finds_every_pair_of_this_run(chain: Chain) -> None:
    (command,) = re.findall(
        r"^prometheus (--config.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    options = [option for option in command.split() if not option.startswith("--web.listen-address")]
    shutil.copytree(ROOT / "ops/prometheus", chain.system.directory / "ops/prometheus")
    with running("prometheus", *options, directory=chain.system.directory) as url:
        beside = Chain(chain.system, url, chain.alertmanager)
        everybody = len(TENANTS) * len(CONNECTORS)
        eventually(
            "every pair is scraped",
            lambda: beside.number('count(registry_connector_health{tenant_id!="*"})') == everybody,
        )
        rules = json.loads(fetched(f"{url}/api/v1/rules"))["data"]["groups"]
        assert {Path(group["file"]).name for group in rules} == {path.name for path in RULES.glob("*.yml")}


def test_every_panel_of_the_dashboard_shows_something_meanwhile(chain: Chain) -> None:
    chain.system.play("acme-01", "gitlab", "expiring")
    chain.system.play("acme-01", "linear", "rate_limited")
    choices = {"job": "connector_health", "connector": "gitlab", "tenant": "acme-01"}
    for variable in variables():
        if variable["type"] == "query":
            assert choices[variable["name"]] in chain.values(filled(variable["definition"], choices))

    def empty() -> list[str]:
        return [title for title, query in queries() if not chain.query(filled(query, choices))]

    eventually("every panel, also those of rates", lambda: not empty())


def test_its_end_is_told_too(chain: Chain) -> None:
    chain.system.play("*", "github", "healthy")
    chain.system.play("*", "gitlab", "healthy")
    eventually("the incident's end", lambda: told("/on_call", "RESOLVED ConnectorVendorIncident github", "(ended)"))
    eventually("the tenant's end", lambda: told("/support", "RESOLVED ConnectorTenantFailing gitlab", "acme-02"))
    assert not [title for path, title, _ in Inbox.messages if path == "/support" and "github" in title]


def test_a_monitor_that_dies_is_told_by_prometheus_alone_and_nobody_is_said_to_have_healed(chain: Chain) -> None:
    chain.system.play("acme-01", "slack", "revoked")
    broken = "FIRING ConnectorTenantBroken slack"
    eventually("the tenant's alert", lambda: told("/support", broken, "credential_rejected", "slack of acme-01"))
    chain.system.run("down")
    eventually(
        "the dead monitor is told",
        lambda: told("/on_call", "FIRING ConnectorMonitorSilent", "docs/runbook.md#connectormonitorsilent"),
    )
    eventually("old gauges raise no alert", lambda: not chain.firing("ConnectorTenantBroken"))
    eventually(
        "its end has reached Alertmanager",
        lambda: "ConnectorTenantBroken" not in fetched(f"{chain.alertmanager}/api/v2/alerts"),
    )
    assert not told("/support", "RESOLVED ConnectorTenantBroken slack")
    assert chain.firing("ConnectorMonitorSilent")
