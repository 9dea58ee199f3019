"""GitLab's connector against GitLab's own OpenAPI document, which Prism speaks.

The document has no ``security``, no error bodies, and of the token's example (revoked and active, ended in 2020)
only the shape can be held against us. ``/user`` is not in our cut of it.
"""

from __future__ import annotations

import pytest

from registry.connectors.gitlab import GitLab
from registry.health import Fault, Reason, StepStatus
from tests.fixtures_contracts import StartRelay
from tests.fixtures_vendors import Check, CheckService

VENDOR = "gitlab.json"
SELF, USER, VERSION = "/api/v4/personal_access_tokens/self", "/api/v4/user", "/api/v4/version"
TOKEN = {"type": "bearer", "token": "glpat-abcdef"}
NO_SUCH_PATH = f"GET {USER}: Route not resolved, no path matched"


async def test_a_tokens_check_is_as_documented_and_its_answer_is_understood(
    prism: str, relay: StartRelay, check: Check
) -> None:
    gitlab = await relay(prism)
    verdict = await check(GitLab, {"auth": TOKEN, "base_url": gitlab.url})
    assert [(exchange.call.method, exchange.call.path) for exchange in gitlab.exchanges] == [("GET", SELF)]
    assert gitlab.objections == []
    assert (verdict.checks[0].name, verdict.checks[0].status) == ("api", StepStatus.PASS)
    assert verdict.reason is not Reason.BAD_RESPONSE


async def test_a_documented_401_refuses_the_token(prism: str, relay: StartRelay, check: Check) -> None:
    gitlab = await relay(prism, prefer={SELF: "code=401"})
    verdict = await check(GitLab, {"auth": TOKEN, "base_url": gitlab.url})
    assert gitlab.objections == []
    assert (verdict.reason, verdict.fault) == (Reason.CREDENTIAL_REJECTED, Fault.TENANT)


async def test_after_a_documented_404_the_user_is_asked_for(prism: str, relay: StartRelay, check: Check) -> None:
    gitlab = await relay(prism, prefer={SELF: "code=404"})
    await check(GitLab, {"auth": TOKEN, "base_url": gitlab.url})
    assert [(exchange.call.path, exchange.status) for exchange in gitlab.exchanges] == [(SELF, 404), (USER, 404)]
    assert gitlab.objections == [NO_SUCH_PATH]


async def test_an_oauth_tokens_check_asks_only_for_what_the_document_leaves_out(
    prism: str, relay: StartRelay, check: Check
) -> None:
    gitlab = await relay(prism)
    await check(GitLab, {"auth": {"type": "oauth2", "access_token": "abcdef"}, "base_url": gitlab.url})
    assert gitlab.objections == [NO_SUCH_PATH]


@pytest.mark.parametrize("status", [200, 401])
async def test_the_service_check_is_as_documented(
    prism: str, relay: StartRelay, check_service: CheckService, status: int
) -> None:
    gitlab = await relay(prism, prefer={VERSION: f"code={status}"})
    verdict = await check_service(GitLab, gitlab.url)
    assert [(exchange.call.path, exchange.status) for exchange in gitlab.exchanges] == [(VERSION, status)]
    assert gitlab.objections == []
    assert verdict.reason is Reason.OK
