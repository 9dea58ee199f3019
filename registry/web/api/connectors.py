"""Which connectors there are, and who asks."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from registry.catalog import Loaded
from registry.errors import ConnectorError
from registry.ids import connector_id
from registry.validation import config_schema
from registry.web.api import schemas
from registry.web.api.answers import answer, failures
from registry.web.guard import Asked, ConnectorPath
from registry.web.site import Site, site_of

router = APIRouter(prefix="/v1", tags=["connectors"])


@router.get("/me", responses={200: {"model": schemas.Myself}, **failures()})
async def me(asked: Asked) -> Response:
    """Whose token this is, and what it may do."""
    grant = asked.grant
    rights = sorted(right.value for right in grant.role.rights)
    return answer({"id": grant.id, "role": grant.role.value, "tenant": grant.tenant, "rights": rights})


@router.get("/connectors", responses={200: {"model": schemas.ConnectorList}, **failures()})
async def connectors(request: Request, _: Asked) -> Response:
    """Every registered connector, and the service check of its vendor's own address."""
    site = site_of(request)
    services = await site.registry.health_check_all()
    return answer({"items": [_row(site, name, service.as_dict()) for name, service in services.items()]})


@router.get("/connectors/{name}", responses={200: {"model": schemas.Manifest}, **failures(404)})
async def manifest(request: Request, name: ConnectorPath, _: Asked) -> Response:
    """A connector's manifest, and the JSON Schema of its configurations."""
    loaded = site_of(request).parts.catalog.load(connector_id(name))
    return answer(
        {"manifest": loaded.manifest.model_dump(mode="json"), "config_schema": config_schema(loaded.manifest)}
    )


def _row(site: Site, name: str, service: dict[str, object]) -> dict[str, object]:
    loaded: Loaded | None
    try:
        loaded, error = site.parts.catalog.load(name), None
    except ConnectorError as refused:
        loaded, error = None, str(refused)
    return {
        "name": name,
        "version": loaded and loaded.manifest.version,
        "title": loaded and loaded.manifest.title,
        "maturity": loaded and loaded.manifest.maturity,
        "usable": loaded is not None,
        "error": error,
        "service": service,
    }
