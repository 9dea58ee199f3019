"""The API as its clients see it: a real server on loopback, on the tests' Redis and store."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from aiohttp import ClientResponse, ClientSession

from registry.bootstrap import Parts, assemble
from registry.roles import Role
from registry.settings import Settings
from registry.web.app import create_app
from registry.web.server import server
from registry.web.site import Site
from tests.waiting import reached
from worker.publish import exposition


@dataclass
class Api:
    """A served API. `parts` are its own: what it is told, a test does with these or by requests."""

    url: str
    parts: Parts
    site: Site
    http: ClientSession

    async def token(self, role: Role = Role.ADMIN, tenant: str | None = None) -> str:
        """A new token."""
        _, token = await self.parts.access.create(role, actor="test", tenant=tenant)
        return token.get_secret_value()

    async def ask(
        self,
        method: str,
        path: str,
        token: str | None = None,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> ClientResponse:
        """One request; the answer is read."""
        given = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        async with self.http.request(method, self.url + path, headers=given, json=json, **more) as answer:
            await answer.read()
            return answer


class StartApi(Protocol):
    """Starts a server; unless it is not to be `reconciled`, Redis is then believed to know who is configured."""

    async def __call__(self, settings: Settings, *, reconciled: bool = True) -> Api: ...


@pytest.fixture
async def start_api() -> AsyncIterator[StartApi]:
    """Starts servers, which end with the test."""
    running: list[tuple[Any, asyncio.Task[None], ClientSession]] = []

    async def start(settings: Settings, *, reconciled: bool = True) -> Api:
        parts = assemble(settings)

        async def text() -> bytes:
            from prometheus_client import generate_latest

            return generate_latest(await exposition(parts))

        app = create_app(parts, exposition=text)
        served, listening = server(app, settings), socket.create_server(("127.0.0.1", 0))
        task = asyncio.get_running_loop().create_task(served.serve(sockets=[listening]))
        await reached("the server has started, or failed", lambda: served.started or task.done())
        assert not task.done(), task.exception()
        if reconciled:
            await parts.reconciler.run()
        http = ClientSession()
        running.append((served, task, http))
        return Api(f"http://127.0.0.1:{listening.getsockname()[1]}", parts, app.state.site, http)

    yield start
    for served, task, http in running:
        await http.close()
        served.should_exit = True
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def api(start_api: StartApi, settings: Settings) -> Api:
    """An API with the tests' settings, and so much allowance that no test meets it by chance."""
    return await start_api(settings.model_copy(update={"api_burst": 1e6, "api_rate": 1e6}))
