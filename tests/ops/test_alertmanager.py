"""Who hears of an alert, and which alerts hold others back: asked of amtool and of a real Alertmanager."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures_prometheus import fetched, running
from tests.ops.rules import ROOT, alerts
from tests.waiting import eventually

CONFIG = ROOT / "ops/alertmanager/alertmanager.yml"

Labels = dict[str, str]

SILENT = {"alertname": "ConnectorMonitorSilent", "severity": "critical", "scope": "monitor"}
OURS = {"alertname": "ConnectorPlatformIncident", "severity": "critical", "scope": "platform"}
OUTAGE = {"alertname": "ConnectorVendorIncident", "severity": "critical", "scope": "vendor", "connector": "github"}
MANY = {"alertname": "ConnectorIncidentOfMany", "severity": "none", "scope": "inhibition", "connector": "github"}
BURNING = {"alertname": "ConnectorErrorBudgetBurning", "severity": "critical", "scope": "vendor", "connector": "github"}
BROKEN = {"alertname": "ConnectorTenantBroken", "severity": "warning", "scope": "tenant", "connector": "github"}
ENDING = {"alertname": "ConnectorCredentialExpiring", "severity": "warning", "scope": "tenant", "connector": "github"}
STALLED = {"alertname": "ConnectorTaskStalled", "severity": "critical", "scope": "monitor"}


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("alertmanager")
    shutil.copy(CONFIG, directory)
    (directory / "secrets").mkdir()
    for name in ("on_call_url", "support_url"):
        (directory / "secrets" / name).write_text("http://127.0.0.1:9/")
    options = ("--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address=")
    with running("prometheus-alertmanager", *options, directory=directory) as url:
        yield url


def raised(url: str, *alerts: Labels) -> None:
    body = json.dumps([{"labels": labels} for labels in alerts]).encode()
    request = urllib.request.Request(f"{url}/api/v2/alerts", body, {"Content-Type": "application/json"})  # noqa: S310 - loopback
    urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - loopback


def inhibited(url: str, job: str) -> dict[str, bool]:
    """By name, of the alerts of one job: is it held back?"""
    found = json.loads(fetched(f"{url}/api/v2/alerts"))
    ours = [alert for alert in found if alert["labels"]["job"] == job]
    return {alert["labels"]["alertname"]: bool(alert["status"]["inhibitedBy"]) for alert in ours}


def test_amtool_has_no_complaint(amtool: Path) -> None:
    done = subprocess.run([amtool, "check-config", CONFIG], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_tenants_alerts_go_to_support_what_only_holds_back_to_nobody_and_all_others_to_the_on_call_engineer(
    rule: dict[str, dict[str, str]], amtool: Path
) -> None:
    labels = [f"{name}={value}" for name, value in rule["labels"].items()]
    command = [str(amtool), "config", "routes", "test", f"--config.file={CONFIG}", *labels]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    elsewhere = {"tenant": "support", "inhibition": "nobody"}
    assert done.stdout.split() == [elsewhere.get(rule["labels"]["scope"], "on-call")]


@pytest.mark.parametrize(
    ("source", "holds_back", "lets_through"),
    [
        (MANY, [BROKEN, BURNING], [OUTAGE, ENDING, STALLED, {**BROKEN, "alertname": "OfSlack", "connector": "slack"}]),
        (OUTAGE, [], [BROKEN, BURNING]),
        (OURS, [OUTAGE, BROKEN, BURNING], [ENDING, STALLED]),
        (SILENT, [OURS, OUTAGE, BROKEN, ENDING], [STALLED]),
        (BROKEN, [], [ENDING, {**OUTAGE, "connector": "slack"}]),
    ],
    ids=["many", "outage", "ours", "silent", "tenant"],
)
def test_an_alert_holds_back_what_it_explains_and_nothing_else(
    request: pytest.FixtureRequest,
    alertmanager: str,
    source: Labels,
    holds_back: list[Labels],
    lets_through: list[Labels],
) -> None:
    job = f"connector_health_{request.node.callspec.id}"
    others = [{**labels, "job": f"{job}_elsewhere"} for labels in holds_back[:1]]
    raised(alertmanager, *[{**labels, "job": job} for labels in (source, *holds_back, *lets_through)], *others)
    wanted = {labels["alertname"]: True for labels in holds_back}
    wanted |= {labels["alertname"]: False for labels in (source, *lets_through)}
    eventually(f"{wanted}", lambda: inhibited(alertmanager, job) == wanted)
    assert not any(inhibited(alertmanager, f"{job}_elsewhere").values()), "another environment's"


def test_the_urgent_form_of_a_tenants_alert_is_enough_for_that_tenant(alertmanager: str) -> None:
    job = "connector_health_twice"
    for tenant, severity in (("acme", "critical"), ("acme", "warning"), ("globex", "warning")):
        raised(alertmanager, {**ENDING, "tenant_id": tenant, "severity": severity, "job": job})

    def held() -> set[tuple[str, str]]:
        found = [each for each in json.loads(fetched(f"{alertmanager}/api/v2/alerts")) if each["labels"]["job"] == job]
        assert len(found) == 3
        rows = [each["labels"] for each in found if each["status"]["inhibitedBy"]]
        return {(labels["tenant_id"], labels["severity"]) for labels in rows}

    eventually("the warning is held back", lambda: held() == {("acme", "warning")})
