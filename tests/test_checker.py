"""The check of a scheduled pair: of its credential nothing is kept, wherever the connector sent it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from aiohttp import web

from registry.bootstrap import Parts, assemble
from registry.check import CheckSession
from registry.connector import BearerAuth, ConnectorConfig
from registry.errors import CheckFailed
from registry.facade import ConnectorRegistry
from registry.health import Fault, Reason, Status, Verdict
from registry.ids import Pair
from registry.schedule import Scheduled
from registry.settings import Settings
from tests.fixtures_vendors import Serve, says
from tests.plugin import Plugin

SECRET = "kX8-a-key-of-no-known-form"


class Indiscreet(Plugin):
    """Sends its key in a header of its own, and repeats whatever the vendor says."""

    manifest = Plugin.manifest.model_copy(update={"name": "indiscreet"})
    url: ClassVar[str] = ""

    async def check(self, session: CheckSession) -> None:
        assert isinstance(self.config.auth, BearerAuth)
        key = self.config.auth.token.get_secret_value()  # type: ignore[union-attr]  # resolved by now
        with session.step("auth"):
            answer = await session.request("GET", self.url, headers={"X-Indiscreet-Key": key})
            told = answer.body.decode()
            session.note(told=told)
            raise CheckFailed(Reason.CREDENTIAL_REJECTED, told, evidence={"again": told})


@pytest.mark.parametrize("times", [1, 2])
async def test_a_credential_that_the_vendor_echoes_is_masked_in_every_check(
    parts: Parts, serve: Serve, times: int
) -> None:
    async def echo(request: web.BaseRequest) -> web.Response:
        return web.Response(text=f"the key {request.headers['X-Indiscreet-Key']} is not accepted")

    Indiscreet.url = await serve(echo)
    parts.catalog.register("indiscreet", Indiscreet)
    registry = ConnectorRegistry(parts)
    config = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": SECRET}})
    await registry.set_config("indiscreet", config, tenant_id="acme", actor="ann")
    for _ in range(times):
        status = await registry.health_check("indiscreet", tenant_id="acme", max_age=0)
    assert status.reason is Reason.CREDENTIAL_REJECTED
    assert "is not accepted" in (status.error or "")
    tried = await registry.dry_run("indiscreet", config, tenant_id="acme")
    for text in (repr(status), repr(tried), str(await parts.redis.keys())):
        assert SECRET not in text


async def test_an_address_that_an_operator_gave_and_the_policy_refuses_is_no_tenants_fault(settings: Settings) -> None:
    closed = {"vendor_urls": {"github": "http://10.1.2.3:8080"}, "egress_allow": ()}
    parts = assemble(settings.model_copy(update=closed))
    config = {"auth": {"type": "bearer", "token": SECRET}}
    pair = Pair("github", "acme")
    try:
        ours = await parts.checker.try_out(pair, ConnectorConfig.model_validate(config))
        theirs = ConnectorConfig.model_validate(config | {"base_url": "https://10.1.2.3"})
        chosen = await parts.checker.try_out(pair, theirs)
    finally:
        await parts.aclose()
    assert (ours.reason, ours.fault, ours.status) == (Reason.MISCONFIGURED, Fault.PLATFORM, Status.UNKNOWN)
    assert (chosen.reason, chosen.fault) == (Reason.MISCONFIGURED, Fault.TENANT)


async def test_a_secret_that_was_rotated_is_read_again_once_the_old_one_has_expired(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        if request.headers["PRIVATE-TOKEN"] == "new":
            return web.json_response({"active": True, "revoked": False, "scopes": ["api"]})
        return web.json_response({"error": "invalid_token", "error_description": "Token is expired."}, status=401)

    secret = tmp_path / "acme" / "token"
    secret.parent.mkdir()
    secret.write_text("old", encoding="utf-8")
    auth = {"type": "bearer", "token": "file://token"}
    config = ConnectorConfig.model_validate({"auth": auth, "base_url": await serve(answer)})
    allowed = {"secrets_dir": tmp_path, "egress_allow": ("127.0.0.0/8",)}
    parts = assemble(settings.model_copy(update=allowed))
    try:
        before = await parts.checker.try_out(Pair("gitlab", "acme"), config)
        secret.write_text("new", encoding="utf-8")
        after = await parts.checker.try_out(Pair("gitlab", "acme"), config)
    finally:
        await parts.aclose()
    assert (before.reason, after.reason) == (Reason.CREDENTIAL_EXPIRED, Reason.OK)


async def test_the_vendors_own_address_is_nobodys_server_however_it_is_spelled(parts: Parts) -> None:
    for url, theirs in (("https://GitLab.com", False), ("https://gitlab.com:443/", False), ("https://g.example", True)):
        config = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://T"}, "base_url": url})
        failed = Verdict(Reason.VENDOR_ERROR, Fault.VENDOR, 1_000)
        located = parts.checker._located(failed, Scheduled(Pair("gitlab", "acme"), 1, config))
        assert (located.action is not None) is theirs


@pytest.mark.parametrize("operators", [True, False])
async def test_whoever_runs_the_server_is_to_look_at_it(settings: Settings, serve: Serve, operators: bool) -> None:
    url = await serve(says(501, ""))
    changes = {"egress_allow": ("127.0.0.0/8",), "vendor_urls": {"gitlab": url} if operators else {}}
    parts = assemble(settings.model_copy(update=changes))
    config = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": SECRET}, "base_url": url})
    try:
        verdict = await parts.checker.try_out(Pair("gitlab", "acme"), config)
    finally:
        await parts.aclose()
    assert (verdict.reason, verdict.fault) == (Reason.VENDOR_ERROR, Fault.VENDOR)
    assert ("look at its own server" in (verdict.action or "")) is not operators
