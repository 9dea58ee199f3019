"""Slack's connector against Slack's own OpenAPI document, which Prism speaks.

The document is of 2020: it knows GET only, paths without ``/api``, and the token in a header of its own beside
``Authorization``. It reads "no scope needed" as "a token needed", which ``api.test`` does not. Prism answers failures
with 401, where Slack answers 200.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from registry.connectors.slack import Slack
from registry.health import Fault, Reason
from registry.http import VendorHttp
from tests.contract.relay import Call
from tests.contract.specifications import Specification
from tests.fixtures_contracts import StartRelay
from tests.fixtures_vendors import Check, CheckService, Serve, says

VENDOR = "slack.json"
WHO, PING = "/auth.test", "/api.test"

ERRORS = {
    Reason.CREDENTIAL_REJECTED: ("not_authed", "invalid_auth", "token_revoked"),
    Reason.ACCOUNT_SUSPENDED: ("account_inactive",),
    Reason.VENDOR_ERROR: ("request_timeout",),
    Reason.MONITOR_ERROR: (
        "invalid_arg_name",
        "invalid_array_arg",
        "invalid_charset",
        "invalid_form_data",
        "invalid_post_type",
        "missing_post_type",
        "invalid_json",
        "json_not_object",
        "upgrade_required",
    ),
}
FAULTS = {Reason.VENDOR_ERROR: Fault.VENDOR, Reason.MONITOR_ERROR: Fault.PLATFORM}


def config(url: str, kind: str = "bearer", token: str = "token") -> dict[str, object]:
    return {"auth": {"type": kind, token: "xoxb-abcdef"}, "base_url": url}


def as_of_2020(call: Call) -> Call:
    """The same call in the words of the document."""
    headers, path = dict(call.headers), call.path.removeprefix("/api")
    if path == PING:
        headers.setdefault("authorization", "Bearer none")
    if "authorization" in headers:
        headers["token"] = headers["authorization"].removeprefix("Bearer ")
    return dataclasses.replace(call, method="GET", path=path, headers=headers)


def always_200(_status: int) -> int:
    return 200


@pytest.mark.parametrize(("kind", "token"), [("bearer", "token"), ("oauth2", "access_token")])
async def test_a_tokens_check_is_as_documented(
    prism: str, relay: StartRelay, check: Check, kind: str, token: str
) -> None:
    slack = await relay(prism, spelled=as_of_2020, status=always_200)
    verdict = await check(Slack, config(slack.url, kind, token))
    assert [exchange.call.path for exchange in slack.exchanges] == [WHO]
    assert slack.objections == []
    assert (verdict.reason, verdict.metadata["workspace"]) == (Reason.OK, "Subarachnoid Workspace")


async def test_the_documented_failure_refuses_the_token(prism: str, relay: StartRelay, check: Check) -> None:
    slack = await relay(prism, prefer={WHO: "code=401"}, spelled=as_of_2020, status=always_200)
    verdict = await check(Slack, config(slack.url))
    assert slack.objections == []
    assert (verdict.reason, verdict.metadata["code"]) == (Reason.CREDENTIAL_REJECTED, "invalid_auth")


async def test_the_service_check_is_as_documented(prism: str, relay: StartRelay, check_service: CheckService) -> None:
    slack = await relay(prism, spelled=as_of_2020, status=always_200)
    verdict = await check_service(Slack, slack.url)
    assert [exchange.call.path for exchange in slack.exchanges] == [PING]
    assert slack.objections == []
    assert verdict.reason is Reason.OK


def test_every_error_that_the_document_lists_is_here(contracts: Path) -> None:
    operation = Specification(contracts / VENDOR).document["paths"][WHO]["get"]
    listed = operation["responses"]["default"]["schema"]["properties"]["error"]["enum"]
    assert sorted(listed) == sorted(code for codes in ERRORS.values() for code in codes)


@pytest.mark.parametrize(("reason", "code"), [(reason, code) for reason, codes in ERRORS.items() for code in codes])
async def test_every_error_that_the_document_lists_is_told_apart(
    serve: Serve, check: Check, reason: Reason, code: str
) -> None:
    verdict = await check(Slack, config(await serve(says(200, {"ok": False, "error": code}))))
    assert (verdict.reason, verdict.fault) == (reason, FAULTS.get(reason, Fault.TENANT))


async def test_what_the_document_does_not_know_is_objected_to(
    prism: str, relay: StartRelay, vendor_http: VendorHttp
) -> None:
    slack = await relay(prism, spelled=as_of_2020)
    await vendor_http.request("POST", f"{slack.url}/api/auth.test")
    await vendor_http.request("POST", f"{slack.url}/api/auth.tests", headers={"Authorization": "Bearer x"})
    assert slack.objections == [
        "GET /auth.test: Invalid security scheme used",
        "GET /auth.test: Request header must have required property 'token'",
        "GET /auth.tests: Route not resolved, no path matched",
    ]
