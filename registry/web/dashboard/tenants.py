"""One tenant's page, the page of one of its pairs, and the button that has a pair checked now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from registry.errors import NotConfigured
from registry.health import HealthStatus, Reason, Status, StepStatus
from registry.history import History
from registry.ids import Pair
from registry.incidents import Incident
from registry.maintenance import Window
from registry.roles import Right
from registry.stores import StoredConfig
from registry.web.api.configurations import shown
from registry.web.api.health import check as check_now
from registry.web.api.incidents import opened
from registry.web.api.maintenance import announced
from registry.web.dashboard.drawing import Strip, bar, strip
from registry.web.dashboard.overview import title_of
from registry.web.dashboard.rendering import PageRoute, page, redirect
from registry.web.dashboard.words import RANKED, href
from registry.web.guard import ConnectorPath, OfTenant, pair_of, within
from registry.web.site import Site, site_of

router = APIRouter(prefix="/tenants/{tenant}", route_class=PageRoute, include_in_schema=False)

EXPIRY_DAYS = 90
"""A full bar of a credential's remaining life."""

Seeing = Annotated[OfTenant, Depends(within(Right.READ))]
Checking = Annotated[OfTenant, Depends(within(Right.CHECK))]
Inspecting = Annotated[OfTenant, Depends(within(Right.INSPECT))]


@dataclass(frozen=True, slots=True)
class StepBar:
    """One step of a check; `begin` and `width` are its place in the check's time, in percent."""

    name: str
    status: StepStatus
    duration_ms: float
    error: str | None
    begin: int
    width: int


@dataclass(frozen=True, slots=True)
class Card:
    """One pair, with all that helps to decide what to do. `quota_bar` and `expiry_bar` are percent that are left."""

    status: HealthStatus
    title: str
    history: History
    strip: Strip
    steps: Sequence[StepBar]
    quota_bar: int | None
    expiry_bar: int | None
    expiry_days: int | None
    service: HealthStatus | None
    incident: Incident | None

    @property
    def name(self) -> str:
        """The connector."""
        return self.status.connector


@router.get("")
async def tenant_page(request: Request, of: Seeing, checked: Annotated[str, Query(max_length=64)] = "") -> Response:
    """Every connector of a tenant, the worst first; `checked` is the one that was just checked."""
    site = site_of(request)
    found = await site.parts.cache.configured(of.tenant)
    if not found:
        raise NotConfigured("there is no such tenant, or it is not yours to see")
    cards = await _cards(site, of, found)
    counts = {status: sum(1 for card in cards if card.status.status is status) for status in RANKED}
    return page(
        request,
        "tenant.html",
        of.caller,
        stream=href("v1", "tenants", of.tenant, "transitions", "stream"),
        tenant=of.tenant,
        cards=cards,
        counts=counts,
        windows=await _windows(site, of.tenant),
        checked=next((card for card in cards if card.name == checked), None),
    )


@router.get("/connectors/{connector}")
async def pair_page(request: Request, connector: ConnectorPath, of: Inspecting) -> Response:
    """A pair's configuration, without what is sealed in it, and who wrote it when. It is read from the store."""
    site, pair = site_of(request), pair_of(of, connector)
    stored, revisions = await asyncio.gather(
        site.registry.get_config(pair.connector, tenant_id=pair.tenant), site.parts.store.history(pair)
    )
    return page(
        request,
        "pair.html",
        of.caller,
        tenant=pair.tenant,
        connector=pair.connector,
        title=title_of(site.parts.catalog, pair.connector),
        stored=stored,
        facts=_facts(stored),
        revisions=revisions,
    )


@router.post("/connectors/{connector}/check")
async def check(request: Request, connector: ConnectorPath, of: Checking) -> Response:
    """Check now, as the API does, and show the page again."""
    pair = pair_of(of, connector)
    await check_now(request, pair.connector, of, 0)
    return redirect("tenants", of.tenant, checked=pair.connector, anchor=pair.connector)


async def _cards(site: Site, of: OfTenant, found: Mapping[str, HealthStatus]) -> list[Card]:
    names, everything = list(found), of.caller.grant.tenant is None
    scheduled = await site.parts.schedule.get([Pair(name, of.tenant) for name in names]) if everything else []
    endpoints = {one.pair.connector: site.parts.checker.endpoint(one) for one in scheduled if one}
    histories, services, incidents = await asyncio.gather(
        site.parts.cache.histories(of.tenant, names), site.registry.health_check_all(), opened(site)
    )
    cards = [
        _card(site, status, histories[name], services.get(name), _own(status, incidents, endpoints.get(name)))
        for name, status in found.items()
    ]
    return sorted(cards, key=lambda card: (RANKED.index(card.status.status), card.name))


def _card(
    site: Site, status: HealthStatus, history: History, service: HealthStatus | None, incident: Incident | None
) -> Card:
    now, quota, ends = site.parts.clock.now_ms(), status.quota, status.credential_expires_ms
    days = (ends - now) // 86_400_000 if ends is not None else None
    asked = service is not None and service.reason is not Reason.NOT_CONFIGURED
    return Card(
        status=status,
        title=title_of(site.parts.catalog, status.connector),
        history=history,
        strip=strip(history.hours(), now),
        steps=_steps(status),
        quota_bar=bar(quota.remaining, quota.limit) if quota else None,
        expiry_bar=bar(days, EXPIRY_DAYS) if days is not None else None,
        expiry_days=days,
        service=service if asked else None,
        incident=incident,
    )


def _own(status: HealthStatus, incidents: Iterable[Incident], endpoint: str | None) -> Incident | None:
    """The open incident that this pair may be part of; `endpoint` is None where the reader may not know it."""
    if status.status is Status.HEALTHY or endpoint is None:
        return None
    return next((one for one in incidents if one.concerns(endpoint)), None)


def _steps(status: HealthStatus) -> list[StepBar]:
    whole, at, steps = sum(step.duration_ms for step in status.checks), 0.0, []
    for step in status.checks:
        width = max(1, bar(step.duration_ms, whole))
        begin = min(100 - width, bar(at, whole))
        steps.append(StepBar(step.name, step.status, step.duration_ms, step.error, begin, width))
        at += step.duration_ms
    return steps


async def _windows(site: Site, tenant: str) -> list[Window]:
    return [window for window in await announced(site) if window.tenant in (None, tenant)]


def _facts(stored: StoredConfig) -> list[tuple[str, str]]:
    """The configuration as rows; secrets are references, and sealed ones only say that they are there."""
    document = shown(stored.config.model_dump(mode="json", exclude_none=True), stored)
    return list(_flat("", document))


def _flat(prefix: str, value: object) -> Sequence[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [
            row for name, inner in value.items() for row in _flat(f"{prefix}.{name}" if prefix else str(name), inner)
        ]
    if isinstance(value, list):
        return [(prefix, ", ".join(str(item) for item in value))]
    return [(prefix, str(value))]
