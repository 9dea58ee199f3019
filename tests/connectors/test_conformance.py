"""The five built-in connectors pass the kit that other packages' connectors are held to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

from aiohttp import web

from registry.connectors.github import GitHub
from registry.connectors.gitlab import GitLab
from registry.connectors.linear import Linear
from registry.connectors.slack import Slack
from registry.connectors.vertex import Vertex
from registry.testing import ConnectorConformance
from tests.fixtures_vendors import NOW_MS
from worker.demo.answers import VENDORS, Call, tenant_of
from worker.demo.tenants import demo_tenants

TENANT = "acme-0123456789"


class Demo(ConnectorConformance):
    """Played by the demo vendors."""

    speaks: ClassVar[str]

    def config(self, url: str) -> Mapping[str, object]:
        text = json.dumps(demo_tenants(1, url)["tenants"]["acme-01"][self.speaks])
        config: dict[str, object] = json.loads(text.replace("acme-01", TENANT))  # a name that is long enough to find
        return config | {"base_url": f"{url}/{self.speaks}"}

    async def vendor(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        name, _, path = request.path[1:].partition("/")
        if name not in VENDORS:  # a service check is given the bare address
            name, path = self.speaks, f"{name}/{path}".rstrip("/")
        call = Call(f"/{path}", tenant_of(request.headers, body), "healthy", request.headers, body, NOW_MS / 1000)
        reply = VENDORS[name](call)
        text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        return web.Response(status=reply.status, text=text, content_type="application/json", headers=reply.headers)


class TestGitHub(Demo):
    connector, speaks = GitHub, "github"


class TestGitLab(Demo):
    connector, speaks = GitLab, "gitlab"


class TestLinear(Demo):
    connector, speaks = Linear, "linear"


class TestSlack(Demo):
    connector, speaks = Slack, "slack"


class TestVertex(Demo):
    connector, speaks = Vertex, "vertex"
