"""``connectors health``, ``check``, ``list``, ``doctor`` and ``metrics``: what they show, and their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from registry import keys
from tests.commands.conftest import Cli
from tests.fixtures_prometheus import fetched
from tests.fixtures_redis import RedisServer
from worker.demo.tenants import demo_tenants
from worker.demo.vendors import DemoVendors


@pytest.fixture
def demo(cli: Cli, script: DemoVendors) -> Cli:
    """One demo tenant with its five connectors."""
    assert cli("tenants", "import", cli.write("t.yaml", json.dumps(demo_tenants(1, script.url)))).code == 0
    return cli


def test_a_check_shows_every_step_and_is_recorded(demo: Cli) -> None:
    ran = demo("check", "github", "--tenant", "acme-01")
    assert ran.code == 0
    assert [row.split()[:2] for row in ran.out.splitlines()[-4:]] == [
        [step, "pass"] for step in ("api", "auth", "permissions", "quota")
    ]
    (seen,) = [row for row in demo("health", "--tenant", "acme-01", "--json").json() if row["connector"] == "github"]
    assert (seen["status"], seen["reason"]) == ("healthy", "ok")


def test_a_check_without_a_budget_left_tells_until_when_and_ends_unknown(
    demo: Cli, script: DemoVendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENANT_BUDGETS", '{"acme-01": 1}')
    ran = demo("check", "github", "--tenant", "acme-01")
    assert ran.code == 3, "what was taken before is not known, so it counts as used up"
    assert "a budget of checks is used up until 20" in ran.out
    assert script.requests["github"] == 0


def test_a_failed_check_tells_the_reason_the_fault_and_what_to_do(demo: Cli, script: DemoVendors) -> None:
    script.script.set("acme-01", "slack", "revoked")
    ran = demo("check", "slack", "--tenant", "acme-01")
    assert ran.code == 1
    assert "credential_rejected" in ran.out
    assert "tenant" in ran.out
    assert "re-install the Slack app" in ran.out
    verdict = demo("check", "slack", "--tenant", "acme-01", "--json")
    assert (verdict.code, verdict.json()["fault"]) == (1, "tenant")


def test_what_is_misconfigured_is_told_wherever_the_verdict_is(demo: Cli) -> None:
    file = demo.write("slack.yaml", "auth: {type: bearer, token: xapp-1-A1-1-abcdef}")
    assert demo("config", "set", "slack", file, "--tenant", "acme-01").code == 0
    demo("check", "slack", "--tenant", "acme-01")
    shown = " ".join(demo("health", "--tenant", "acme-01").out.split())
    assert "app-level token" in shown


def test_a_check_without_the_workers_secret_says_that_it_is_not_recorded(demo: Cli) -> None:
    file = demo.write("slack.yaml", "auth: {type: bearer, token: env://SLACK}")
    demo.environment.setenv("CONNECTOR_SECRET_acme_2d01__SLACK", "xoxb-demo-acme-01")
    assert demo("config", "set", "slack", file, "--tenant", "acme-01").code == 0
    assert "not recorded" not in demo("check", "slack", "--tenant", "acme-01").out
    demo.environment.delenv("CONNECTOR_SECRET_acme_2d01__SLACK")
    ran = demo("check", "slack", "--tenant", "acme-01")
    assert "is not set" in ran.out
    assert "not recorded  this shell lacks what the workers may have" in ran.out
    assert "healthy" in demo("health", "--tenant", "acme-01").out
    tried = demo.write("tried.yaml", "auth: {type: bearer, token: xoxb-demo-acme-01}")
    assert "not recorded" not in demo("config", "set", "slack", tried, "--tenant", "acme-01", "--test").out


def test_the_check_of_what_fails_for_the_first_time_shows_its_own_verdict_too(demo: Cli, script: DemoVendors) -> None:
    demo("check", "github", "--tenant", "acme-01")
    script.script.set("acme-01", "github", "error_503")
    ran = demo("check", "github", "--tenant", "acme-01")
    assert ran.code == 0, "one transient failure is not believed yet"
    assert "vendor_error" in ran.out
    assert "not yet confirmed" in ran.out


def test_the_exit_code_tells_unknown_then_healthy_then_unhealthy(demo: Cli, script: DemoVendors) -> None:
    assert demo("health").code == 3, "nothing was checked yet"
    for name in ("github", "gitlab", "linear", "slack", "vertex"):
        assert demo("check", name, "--tenant", "acme-01").code == 0
    assert demo("health").code == 0
    script.script.set("acme-01", "vertex", "revoked")
    assert demo("check", "vertex", "--tenant", "acme-01").code == 1
    shown = demo("health")
    assert shown.code == 1
    assert "✖ credential_rejected" in shown.out, "the status does not hang on colour"
    assert "what to do" in shown.out


def test_health_without_redis_is_unknown(cli: Cli) -> None:
    cli.environment.setenv("REDIS_URL", "redis://127.0.0.1:1/1")
    ran = cli("health", "--json")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (3, "", 1)
    assert cli("check", "github", "--tenant", "acme").code == 3


def test_the_list_shows_each_connector_and_how_one_signs_in(cli: Cli) -> None:
    rows = {row["name"]: row for row in cli("list", "--json").json()}
    assert set(rows) == {"github", "gitlab", "linear", "slack", "vertex"}
    assert "github_app" in rows["github"]["auth_methods"]


def test_the_doctor_says_what_is_wrong_and_what_to_do(demo: Cli) -> None:
    ran = demo("doctor", "--json")
    found = {row["what"]: row for row in ran.json()}
    assert ran.code == 1
    assert found["Redis"]["ok"]
    assert found["configuration store"]["ok"]
    assert not found["check processes"]["ok"]
    assert not found["dispatch"]["ok"]
    assert all(row["do"] for row in found.values() if not row["ok"])


def test_the_doctor_finds_a_redis_that_is_away_and_a_secret_that_is_gone(demo: Cli) -> None:
    demo.environment.setenv("CONNECTOR_SECRET_acme__SLACK", "xoxb-1")
    demo(
        "tenants",
        "import",
        demo.write("s.yaml", "tenants: {acme: {slack: {auth: {type: bearer, token: env://SLACK}}}}"),
    )
    demo.environment.delenv("CONNECTOR_SECRET_acme__SLACK")
    demo.environment.setenv("REDIS_URL", "redis://127.0.0.1:1/1")
    found = {row["what"]: row for row in demo("doctor", "--json").json()}
    assert not found["Redis"]["ok"]
    assert "CONNECTOR_SECRET_acme__SLACK" in found["tenant acme, connector slack"]["found"]


def test_the_doctor_finds_a_store_that_was_lost(demo: Cli, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.hset(keys.CURSOR, "lost", 30)
    found = {row["what"]: row for row in demo("doctor", "--json").json()}
    assert found["configurations"]["found"].startswith("30 that nobody deleted are gone")


def test_metrics_serves_everybodys_verdicts(demo: Cli, script: DemoVendors) -> None:
    demo("tenants", "import", demo.write("t.yaml", json.dumps(demo_tenants(6, script.url))))
    script.script.set("acme-01", "slack", "revoked")
    demo("check", "slack", "--tenant", "acme-01")
    command = [sys.executable, "-m", "worker.cli", "metrics", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            page = fetched(url)
        finally:
            server.terminate()
        assert server.wait(10) == 0
    families = list(text_string_to_metric_families(page))
    assert len({family.name for family in families}) == len(families), "each family stands once"
    health = {
        (sample.labels["connector"], sample.labels["tenant_id"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "registry_connector_health"
    }
    assert health["slack", "acme-01"] == 0
    assert {tenant for connector, tenant in health if connector == "github"} == {f"acme-0{n}" for n in range(1, 7)}
    assert health["github", "acme-01"] == -1


def test_help_is_fast_and_documents_the_exit_codes() -> None:
    code = "import sys; from worker import cli; heavy = {'aiohttp', 'celery', 'redis', 'cryptography', 'psutil'}"
    code += "; print(heavy & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    shown = subprocess.run([sys.executable, "-m", "worker.cli", "--help"], capture_output=True, text=True, check=True)
    assert "3 unknown" in " ".join(shown.stdout.split())


def test_the_doctor_tells_what_budgets_do_and_names_no_connector_has(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENDOR_BUDGETS", '{"github": 60}')
    monkeypatch.setenv("CHECK_INTERVALS", '{"githbu": 300, "github": 30}')
    found = {row["what"]: row for row in cli("doctor", "--json").json()}
    assert found["budget github"]["ok"]
    assert "60 checks for 0 pairs" in found["budget github"]["found"]
    assert not found["connector githbu"]["ok"]
    assert "CHECK_INTERVALS" in found["connector githbu"]["do"]
