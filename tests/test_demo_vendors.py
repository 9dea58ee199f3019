"""The demo vendors and their tenants: what `make run`, tests and benchmarks stand on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from registry.connector import Connector, ConnectorConfig
from registry.connectors import CONNECTORS
from registry.health import Fault, Reason
from registry.http import VendorHttp
from tests.fixtures_vendors import Check, CheckService, Serve, demo_config, says
from worker.demo.answers import FAULTS
from worker.demo.tenants import demo_faults, demo_tenants
from worker.demo.vendors import DemoVendors


def vendor(name: str) -> type[Connector]:
    module, _, attribute = CONNECTORS[name].partition(":")
    found: type[Connector] = getattr(import_module(module), attribute)
    return found


R = Reason
EXPECTED: dict[str, tuple[Reason, ...]] = {
    # github, gitlab, linear, slack, vertex
    "healthy": (R.OK, R.OK, R.OK, R.OK, R.OK),
    "revoked": (R.CREDENTIAL_REJECTED,) * 5,
    "expired": (
        R.CREDENTIAL_REJECTED,  # GitHub does not say why it refuses a token
        R.CREDENTIAL_EXPIRED,
        R.CREDENTIAL_REJECTED,  # nor does Linear
        R.CREDENTIAL_EXPIRED,
        R.ACCOUNT_SUSPENDED,  # a key has no end; its account does
    ),
    "missing_scope": (R.PERMISSION_DENIED,) * 5,
    "rate_limited": (R.RATE_LIMITED,) * 5,
    "slow": (R.OK,) * 5,  # these vendors are slow by 0.2 s only
    "error_503": (R.VENDOR_ERROR,) * 5,
    "maintenance": (R.VENDOR_ERROR,) * 5,
    "hanging": (R.TIMEOUT,) * 5,
    "garbage": (R.BAD_RESPONSE,) * 5,
    "expiring": (R.CREDENTIAL_EXPIRING, R.CREDENTIAL_EXPIRING, R.OK, R.CREDENTIAL_EXPIRING, R.OK),
}


def test_every_fault_has_an_expectation() -> None:
    assert set(EXPECTED) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_told_apart_at_every_vendor(script: DemoVendors, check: Check, fault: str) -> None:
    script.script.set("acme-01", "*", fault)
    timeout = 0.3 if fault == "hanging" else 5.0
    verdicts = [await check(vendor(name), demo_config(name, script), timeout=timeout) for name in CONNECTORS]
    assert tuple(verdict.reason for verdict in verdicts) == EXPECTED[fault]
    for name, verdict in zip(CONNECTORS, verdicts, strict=True):
        expected = None if verdict.reason is Reason.OK else vendor(name).actions.get(verdict.reason)
        if verdict.fault is Fault.VENDOR and verdict.reason is Reason.RATE_LIMITED:
            expected = verdict.action  # shared capacity: the advice is the fault's
        assert verdict.action == expected


@pytest.mark.parametrize("name", [name for name in CONNECTORS if name != "vertex"])
async def test_a_credential_that_the_demo_did_not_make_up_is_rejected(
    script: DemoVendors, check: Check, name: str
) -> None:
    config = {"auth": {"type": "bearer", "token": "ghp_16C7e42F292c6912E7710c8"}, "base_url": f"{script.url}/{name}"}
    assert (await check(vendor(name), config)).reason is Reason.CREDENTIAL_REJECTED


async def test_a_fault_of_one_tenant_is_nobody_elses(script: DemoVendors, check: Check) -> None:
    script.script.set("acme-01", "slack", "revoked")
    assert (await check(vendor("slack"), demo_config("slack", script, 1))).reason is Reason.CREDENTIAL_REJECTED
    assert (await check(vendor("slack"), demo_config("slack", script, 2), tenant="acme-02")).reason is Reason.OK
    assert (await check(vendor("github"), demo_config("github", script, 1))).reason is Reason.OK


@pytest.mark.parametrize("name", CONNECTORS)
async def test_the_service_check_needs_no_credential(
    script: DemoVendors, check_service: CheckService, name: str
) -> None:
    verdict = await check_service(vendor(name), f"{script.url}/{name}")
    assert (verdict.reason, [step.name for step in verdict.checks]) == (Reason.OK, ["api"])
    script.script.set("*", name, "error_503")
    assert (await check_service(vendor(name), f"{script.url}/{name}")).reason is Reason.VENDOR_ERROR


@pytest.mark.parametrize("name", CONNECTORS)
async def test_the_service_check_of_a_rate_limited_address_is_our_fault(
    serve: Serve, check_service: CheckService, name: str
) -> None:
    verdict = await check_service(vendor(name), await serve(says(429, {"ok": False, "error": "ratelimited"})))
    assert verdict.reason is Reason.RATE_LIMITED
    assert verdict.fault is Fault.PLATFORM


@pytest.mark.parametrize("name", CONNECTORS)
async def test_the_service_check_of_a_web_page_is_no_service(
    serve: Serve, check_service: CheckService, name: str
) -> None:
    page = says(200, "<html>hello</html>", {"Content-Type": "text/html"})
    assert (await check_service(vendor(name), await serve(page))).reason is Reason.BAD_RESPONSE


async def test_faults_are_set_read_and_reset_over_http(script: DemoVendors, vendor_http: VendorHttp) -> None:
    control = f"{script.url}/control"
    answer = await vendor_http.request("POST", f"{control}/acme-01/slack", json={"fault": "revoked"})
    assert answer.json() == {"tenant": "acme-01", "connector": "slack", "fault": "revoked"}
    assert answer.body.endswith(b"\n")  # it is typed in terminals
    await vendor_http.request("POST", f"{control}/*/github", json={"fault": "error_503"})
    await vendor_http.request("GET", f"{script.url}/github/rate_limit")
    state = (await vendor_http.request("GET", control)).json()
    assert state == {
        "faults": {"acme-01": {"slack": "revoked"}, "*": {"github": "error_503"}},
        "requests": {"github": 1},
        "tenants": {"*": {"github": 1}},
    }
    reset = await vendor_http.request("DELETE", control)
    assert reset.json() == {"faults": {}, "requests": {}, "tenants": {}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("acme-01/slack", {"fault": "nonsense"}),
        ("acme-01/jira", {"fault": "revoked"}),
        ("acme-01/slack", {}),
        ("acme-01/slack", [1]),
    ],
)
async def test_a_control_request_that_makes_no_sense_is_refused(
    script: DemoVendors, vendor_http: VendorHttp, path: str, body: object
) -> None:
    answer = await vendor_http.request("POST", f"{script.url}/control/{path}", json=body)
    assert answer.status == 400
    assert script.script.as_dict() == {}


def test_the_narrowest_word_wins_and_a_wildcard_replaces_what_it_covers(script: DemoVendors) -> None:
    faults = script.script
    faults.set("*", "*", "slow")
    faults.set("acme-01", "slack", "revoked")
    assert [faults.of("acme-01", "slack"), faults.of("acme-01", "github")] == ["revoked", "slow"]
    faults.set("*", "slack", "healthy")
    assert [faults.of("acme-01", "slack"), faults.of("acme-01", "github")] == ["healthy", "slow"]


def test_demo_tenants_are_accepted_by_their_connectors() -> None:
    tenants = demo_tenants(3, "http://127.0.0.1:1")["tenants"]
    assert list(tenants) == ["acme-01", "acme-02", "acme-03"]
    for configs in tenants.values():
        assert set(configs) == set(CONNECTORS)
        for name, config in configs.items():
            vendor(name).validate(ConnectorConfig.model_validate(config))


def test_demo_tenants_are_plain_data_that_tells_its_faults() -> None:
    tenants = demo_tenants(25, "http://127.0.0.1:1/")["tenants"]
    json.dumps(tenants)
    told = {(t, c): cfg["label"] for t, configs in tenants.items() for c, cfg in configs.items() if "label" in cfg}
    assert told == {(tenant, connector): f"demo: {fault}" for tenant, connector, fault in demo_faults(25)}
    assert {fault for _, _, fault in demo_faults(25)} <= set(FAULTS)
    assert demo_faults(0) == []


def test_the_command_serves_until_sigterm_and_hanging_clients_do_not_hold_it(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    command = [
        sys.executable,
        "-m",
        "worker.demo.vendors",
        "--port",
        "0",
        "--port-file",
        str(port_file),
        "--tenants",
        "9",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url == f"http://127.0.0.1:{port_file.read_text()}"
            asyncio.run(_hang_up_on(url, process.pid))
            assert process.wait(10) == 0
        finally:
            process.kill()


async def _hang_up_on(url: str, pid: int) -> None:
    port = int(url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /control HTTP/1.1\r\nHost: demo\r\n\r\n")
    assert b"acme-03" in await reader.readuntil(b"requests")
    writer.write(b'POST /control/*/* HTTP/1.1\r\nHost: demo\r\nContent-Length: 20\r\n\r\n{"fault": "hanging"}')
    await reader.readuntil(b"hanging")
    writer.write(b"GET /github/rate_limit HTTP/1.1\r\nHost: demo\r\n\r\n")
    await writer.drain()
    os.kill(pid, signal.SIGTERM)
    await reader.read()
    writer.close()
    await writer.wait_closed()


def test_a_port_in_use_is_one_sentence_and_exit_code_2(demo_vendors: DemoVendors) -> None:
    port = demo_vendors.url.rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "-m", "worker.demo.vendors", "--port", port],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert port in done.stderr


def test_importing_the_connectors_table_imports_no_connector() -> None:
    code = "import sys, registry.connectors; print([m for m in sys.modules if m.startswith('registry.connectors.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
