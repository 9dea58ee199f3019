"""The check of a scheduled pair: of its credential nothing is kept, wherever the connector sent it."""

from __future__ import annotations

from typing import ClassVar

import pytest
from aiohttp import web

from registry.bootstrap import Parts
from registry.check import CheckSession
from registry.connector import BearerAuth, ConnectorConfig
from registry.errors import CheckFailed
from registry.facade import ConnectorRegistry
from registry.health import Reason
from tests.fixtures_vendors import Serve
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
