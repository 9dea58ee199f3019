"""Puts the application together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from registry.versions import framework_version
from registry.web import api, dashboard, problems
from registry.web.dashboard import rendering
from registry.web.dashboard.statics import Assets
from registry.web.shield import Shield
from registry.web.site import Exposition, Site

if TYPE_CHECKING:
    from registry.bootstrap import Parts


def create_app(parts: Parts, *, exposition: Exposition | None = None) -> FastAPI:
    """The API and the dashboard on `parts`, which are closed with it.

    Args:
        exposition: makes the text of ``/metrics``.
    """
    site = Site(parts, exposition)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await site.open()
        yield
        await site.close()

    app = FastAPI(
        title="Connector Registry",
        version=framework_version(),
        summary="For every tenant and every connector: does it work right now, whose fault is it if not, what to do.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its pages are loaded from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.site = site
    for router in (*api.ROUTERS, *dashboard.ROUTERS):
        app.include_router(router)
    app.mount("/static", Assets())
    problems.install(app)
    rendering.install(app)
    app.add_middleware(Shield, most=parts.settings.api_body, seconds=parts.settings.api_timeout)
    return app
