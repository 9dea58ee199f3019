"""Configurations: written over a revision that is known, tried out before, and their secrets never shown.

https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from starlette.responses import Response

from registry.connector import SecretRef
from registry.errors import ConflictError, InvalidConfig, NotConfigured
from registry.health import rfc3339
from registry.ids import Pair
from registry.roles import Right
from registry.stores import StoredConfig
from registry.web.api import schemas
from registry.web.api.answers import answer, conditional, failures
from registry.web.guard import ConnectorPath, OfTenant, pair_of, within
from registry.web.problems import Problem
from registry.web.site import Site, site_of

router = APIRouter(prefix="/v1/tenants/{tenant}/connectors/{connector}/config", tags=["configurations"])

KEPT = SecretRef("enc://kept")
"""What a sealed secret is shown as; given back in a write, it stands for the secret that is stored."""

Document = Annotated[
    dict[str, Any],
    Body(
        description="As `GET /v1/connectors/{name}` describes it in `config_schema`. A secret is a reference or clear "
        "text, which is sealed and never shown again; `enc://kept` keeps the one that is stored.",
        examples=[{"auth": {"type": "bearer", "token": "env://GITHUB"}}],
    ),
]
Inspecting = Annotated[OfTenant, Depends(within(Right.INSPECT))]
Configuring = Annotated[OfTenant, Depends(within(Right.CONFIGURE))]


@router.get(
    "", responses={200: {"model": schemas.Configuration}, 304: {"description": "as you know it"}, **failures(403, 404)}
)
async def get_config(request: Request, connector: ConnectorPath, of: Inspecting) -> Response:
    """A configuration; its ETag is its revision, which a write names in `If-Match`."""
    stored = await site_of(request).registry.get_config(pair_of(of, connector).connector, tenant_id=of.tenant)
    return conditional(request, _shown(stored), tag_of(stored.revision))


@router.get("/revisions", responses={200: {"model": schemas.RevisionList}, **failures(403, 404)})
async def revisions(request: Request, connector: ConnectorPath, of: Inspecting) -> Response:
    """Who wrote when; the last 20."""
    rows = await site_of(request).parts.store.history(pair_of(of, connector))
    if not rows:
        raise NotConfigured("there is no such configuration, or it is not yours to see")
    items = [
        {"revision": r.revision, "actor": r.actor, "updated_at": rfc3339(r.updated_ms), "deleted": r.deleted}
        for r in rows
    ]
    return answer({"items": items})


@router.put(
    "",
    responses={
        200: {"model": schemas.Configuration},
        201: {"model": schemas.Configuration},
        **failures(403, 404, 409, 412, 413, 428),
    },
)
async def put_config(request: Request, connector: ConnectorPath, of: Configuring, document: Document) -> Response:
    """Write a configuration; the pair is checked at once.

    `If-Match` names the revision it replaces (its ETag, or `*` for whatever there is), `If-None-Match: *` says that
    there must be none. Without either, nothing is written (428).
    """
    site, pair = site_of(request), pair_of(of, connector)
    before = await _stored(site, pair)
    expected = _expected(request, before)
    config = _completed(document, before)
    try:
        stored = await site.registry.set_config(
            pair.connector, config, tenant_id=pair.tenant, actor=of.caller.name, expected=expected
        )
    except ConflictError as error:
        raise _stale() from error
    status = 200 if before else 201
    return answer(_shown(stored), status, {"ETag": tag_of(stored.revision)})


@router.post("/test", responses={200: {"model": schemas.Verdict}, **failures(403, 404, 413)})
async def try_config(request: Request, connector: ConnectorPath, of: Configuring, document: Document) -> Response:
    """What a check with this configuration says; nothing is stored."""
    site, pair = site_of(request), pair_of(of, connector)
    config = _completed(document, await _stored(site, pair))
    return answer((await site.registry.dry_run(pair.connector, config, tenant_id=pair.tenant)).as_dict())


@router.delete("", status_code=204, responses={204: {"description": "deleted"}, **failures(403, 404, 409, 412, 428)})
async def delete_config(
    request: Request,
    connector: ConnectorPath,
    of: Configuring,
) -> Response:
    """Delete a configuration; `If-Match` names its revision, or `*`."""
    site, pair = site_of(request), pair_of(of, connector)
    before = await _stored(site, pair)
    if before is None:
        raise NotConfigured("there is no such configuration, or it is not yours to see")
    expected = _expected(request, before)
    try:
        await site.registry.delete_config(
            pair.connector, tenant_id=pair.tenant, actor=of.caller.name, expected=expected
        )
    except ConflictError as error:
        raise _stale() from error
    return Response(status_code=204)


def tag_of(revision: int) -> str:
    """The ETag of a revision."""
    return f'"r{revision}"'


def shown(config: Mapping[str, Any], stored: StoredConfig) -> dict[str, Any]:
    """A configuration's document without what is sealed in it."""
    sealed = {name: str(KEPT) for name, value in stored.config.secrets() if str(value).startswith("enc://")}
    return {**config, "auth": {**config["auth"], **sealed}}


def _shown(stored: StoredConfig) -> dict[str, Any]:
    return {
        "tenant_id": stored.pair.tenant,
        "connector": stored.pair.connector,
        "revision": stored.revision,
        "actor": stored.actor,
        "updated_at": rfc3339(stored.updated_ms),
        "config": shown(stored.config.model_dump(mode="json", exclude_none=True), stored),
    }


async def _stored(site: Site, pair: Pair) -> StoredConfig | None:
    try:
        return await site.registry.get_config(pair.connector, tenant_id=pair.tenant)
    except NotConfigured:
        return None


def _expected(request: Request, before: StoredConfig | None) -> int | None:
    """The revision that a write replaces, as its preconditions say; 0: there must be none."""
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if none_match is not None:
        if none_match.strip() != "*" or before is not None:
            raise _stale()
        return 0
    if match is None:
        raise Problem(
            428,
            "precondition_required",
            "say which revision this replaces: If-Match with its ETag (or *), or If-None-Match: * for a new one",
        )
    if before is None:
        raise _stale()
    if match.strip() == "*":
        return before.revision
    if tag_of(before.revision) not in {part.strip() for part in match.split(",")}:
        raise _stale()
    return before.revision


def _completed(document: Mapping[str, Any], before: StoredConfig | None) -> Mapping[str, Any]:
    """The document with the secrets that are to be kept."""
    auth = document.get("auth")
    if not isinstance(auth, Mapping):
        return document
    kept = {name for name, value in auth.items() if value == str(KEPT)}
    if not kept:
        return document
    if before and (document.get("base_url") or None) != before.config.base_url:
        raise InvalidConfig(f"auth.{min(kept)}: a secret is kept for the address it was given for: give it anew")
    known = dict(before.config.secrets()) if before and before.config.auth.type == auth.get("type") else {}
    missing = sorted(kept - known.keys())
    if missing:
        raise InvalidConfig(f"auth.{missing[0]}: there is no stored secret to keep: give it anew")
    return {**document, "auth": {**auth, **{name: str(known[name]) for name in kept}}}


def _stale() -> Problem:
    return Problem(412, "precondition_failed", "another revision is stored: read it again, and decide anew")
