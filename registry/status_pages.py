"""The vendors' public status pages: what each says of itself, read slowly and kept as evidence.

A page never makes a verdict and never opens an incident: vendors tell late, and of much that touches no connector. It
is shown beside what the checks found. A page that cannot be read says nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Annotated, NamedTuple, TypeVar, cast

import msgspec
from pydantic import FailFast, TypeAdapter, ValidationError

from registry import keys
from registry.catalog import Catalog
from registry.clean import clean
from registry.connection import Redis
from registry.connector import StatusPage
from registry.errors import CheckFailed, ConnectorError
from registry.http import VendorHttp
from registry.settings import Settings
from registry.vendor import Document

Item = TypeVar("Item")
Some = Annotated[tuple[Item, ...], FailFast()]


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What a status page said at `read_ms` (Unix milliseconds).

    `ok` is False while it tells of trouble that concerns the connector, None where it could not be read. `summary` is
    its own words, cleaned; `url` is where it was read.
    """

    connector: str
    ok: bool | None
    summary: str
    url: str
    read_ms: int


class Finding(NamedTuple):
    """Is all well, and in which words."""

    ok: bool
    summary: str


class _Named(Document):
    name: str


class _Part(_Named):
    status: str


class _Incident(_Named):
    components: Some[_Named] = ()


class _Indicator(Document):
    indicator: str
    description: str


class _Summary(Document):
    status: _Indicator
    components: Some[_Part] = ()
    incidents: Some[_Incident] = ()


def statuspage(body: bytes, concerns: Collection[str]) -> Finding:
    """Statuspage's ``/api/v2/summary.json``, which incident.io serves too. https://metastatuspage.com/api"""
    page = _Summary.model_validate_json(body)
    parts = [part for part in page.components if _concerned(part.name, concerns)]
    if not parts:  # the names are others now: all of the page counts
        return Finding(page.status.indicator == "none", page.status.description)
    told = [
        incident.name for incident in page.incidents if any(_concerned(c.name, concerns) for c in incident.components)
    ]
    told += [f"{part.name}: {part.status}" for part in parts if part.status != "operational"]
    return Finding(not told, "; ".join(told) or page.status.description)


class _SlackIncident(Document):
    title: str
    type: str = "incident"
    services: Some[str] = ()


class _Current(Document):
    status: str
    active_incidents: Some[_SlackIncident] = ()


def slack(body: bytes, concerns: Collection[str]) -> Finding:
    """Slack's ``/api/v2.0.0/current``. https://docs.slack.dev/reference/slack-status-api"""
    page = _Current.model_validate_json(body)
    told = [
        f"{incident.type}: {incident.title}"
        for incident in page.active_incidents
        if not incident.services or any(_concerned(service, concerns) for service in incident.services)
    ]
    return Finding(not told, "; ".join(told) or "no incident of what concerns us")


class _Component(_Part):
    status_code: int


class _Overall(Document):
    status: str
    status_code: int


class _Result(Document):
    status_overall: _Overall
    status: Some[_Component] = ()


class _StatusIo(Document):
    result: _Result


OPERATIONAL = 100
"""https://kb.status.io/developers/status-codes"""


def statusio(body: bytes, concerns: Collection[str]) -> Finding:
    """Status.io's public status API. https://kb.status.io/developers/public-status-api"""
    page = _StatusIo.model_validate_json(body).result
    parts = [part for part in page.status if _concerned(part.name, concerns)]
    if not parts:
        return Finding(page.status_overall.status_code == OPERATIONAL, page.status_overall.status)
    told = [f"{part.name}: {part.status}" for part in parts if part.status_code != OPERATIONAL]
    return Finding(not told, "; ".join(told) or page.status_overall.status)


class _Product(Document):
    title: str


class _CloudIncident(Document):
    end: str | None = None
    external_desc: str = ""
    status_impact: str = ""
    service_name: str = ""
    affected_products: Some[_Product] = ()

    def concerns(self, concerns: Collection[str]) -> bool:
        """Has it not ended, and does it harm a product in question?"""
        names = [self.service_name, *(product.title for product in self.affected_products)]
        harm = not self.end and self.status_impact != "SERVICE_INFORMATION"
        return harm and any(_concerned(name, concerns) for name in names)


_CLOUD = TypeAdapter(Some[_CloudIncident])


def google(body: bytes, concerns: Collection[str]) -> Finding:
    """Google Cloud's ``incidents.json``, which lists past ones too. https://status.cloud.google.com/incidents.schema.json"""
    told = [
        f"{incident.status_impact or 'incident'}: {incident.external_desc}"
        for incident in _CLOUD.validate_json(body, strict=True)
        if incident.concerns(concerns)
    ]
    return Finding(not told, "; ".join(told) or "no open incident of what concerns us")


FORMATS: Mapping[str, Callable[[bytes, Collection[str]], Finding]] = MappingProxyType(
    {"statuspage": statuspage, "slack": slack, "statusio": statusio, "google": google}
)
"""`registry.connector.StatusPage.format` → its parser, which raises pydantic's ValidationError for any other body."""


def _concerned(name: str, concerns: Collection[str]) -> bool:
    return not concerns or any(word.casefold() in name.casefold() for word in concerns)


def pages(catalog: Catalog, settings: Settings) -> dict[str, StatusPage]:
    """The pages to read, by connector: those of the manifests, at the operator's addresses where they are given."""
    found: dict[str, StatusPage] = {}
    for name in catalog.list():
        try:
            page = catalog.load(name).manifest.status_page
        except ConnectorError:
            continue
        url = settings.status_page_urls.get(name, page.url if page else "")
        if page and url:
            found[name] = page.model_copy(update={"url": url})
    return found


async def read_page(http: VendorHttp, connector: str, page: StatusPage, *, timeout: float, now_ms: int) -> StatusReport:
    """Read one page, within `timeout` seconds. Never raises: what cannot be read is a report too."""
    ok: bool | None = None
    try:
        async with asyncio.timeout(timeout):
            answer = await http.request("GET", page.url)
        if answer.status == 200:
            ok, summary = FORMATS[page.format](answer.body, page.concerns)
        else:
            summary = f"cannot be read: HTTP {answer.status}"
    except CheckFailed as failure:
        summary = f"cannot be read: {failure.message}"
    except TimeoutError:
        summary = f"cannot be read: no answer within {timeout:g} s"
    except ValidationError:
        summary = "cannot be read: not in the documented format"
    return StatusReport(connector, ok, clean(summary), page.url, now_ms)


async def keep(redis: Redis, reports: Collection[StatusReport], ttl: float) -> None:
    """Replace what is kept, for `ttl` seconds."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.delete(keys.STATUS_PAGES)
        for report in reports:
            pipe.hset(keys.STATUS_PAGES, report.connector, json.dumps(asdict(report)))
        pipe.pexpire(keys.STATUS_PAGES, int(ttl * 1000))
        await pipe.execute()


async def status_reports(redis: Redis) -> dict[str, StatusReport]:
    """What the pages said last, by connector; nothing is kept for long."""
    wires = cast("Mapping[bytes, bytes]", await redis.hgetall(keys.STATUS_PAGES))
    found: dict[str, StatusReport] = {}
    for wire in wires.values():
        with suppress(msgspec.DecodeError):  # of another version
            report = msgspec.json.decode(wire, type=StatusReport)
            found[report.connector] = report
    return found
