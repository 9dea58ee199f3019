"""What the package's author runs: the kit, with the one configuration and the one answer it needs."""

from __future__ import annotations

from collections.abc import Mapping

from acme_tracker import AcmeTracker
from aiohttp import web

from registry.testing import ConnectorConformance


class TestAcmeTracker(ConnectorConformance):
    connector = AcmeTracker

    def config(self, url: str) -> Mapping[str, object]:
        return {"auth": {"type": "bearer", "token": "k-0123456789abcdef"}, "base_url": url}

    async def vendor(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"user": "ann"})
