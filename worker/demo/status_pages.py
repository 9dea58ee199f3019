"""The demo vendors' status pages, each in its vendor's own format: red while its vendor is down for everybody.

::

    curl -X POST localhost:8099/control/status-page/github -d '{"fault": "error_503"}'

turns only the page red.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Final

AUDIENCE: Final = "status-page"
"""Plays the part of the tenant in the script of faults: whose fault the pages show."""

TROUBLE = frozenset({"error_503", "maintenance", "hanging", "slow", "garbage"})
"""The faults that a vendor would tell of; it does not know of a tenant's."""


def statuspage(name: str, part: str, when: str, *, ok: bool) -> dict[str, object]:
    """https://metastatuspage.com/api"""
    component = {"id": "c1", "name": part, "status": "operational" if ok else "major_outage", "updated_at": when}
    incident = {
        "id": "i1",
        "name": f"Incident with {part}",
        "status": "investigating",
        "impact": "major",
        "created_at": when,
        "components": [component],
    }
    told = ("none", "All Systems Operational") if ok else ("major", "Partial System Outage")
    return {
        "page": {"id": "p1", "name": name, "updated_at": when},
        "status": dict(zip(("indicator", "description"), told, strict=True)),
        "components": [component, {"id": "c2", "name": "Marketing site", "status": "operational", "updated_at": when}],
        "incidents": [] if ok else [incident],
        "scheduled_maintenances": [],
    }


def slack(when: str, *, ok: bool) -> dict[str, object]:
    """https://docs.slack.dev/reference/slack-status-api"""
    incident = {
        "id": "546",
        "date_created": when,
        "date_updated": when,
        "title": "Some API calls are failing",
        "type": "outage",
        "status": "active",
        "services": ["Apps/Integrations/APIs"],
        "notes": [],
    }
    told = {"status": "ok" if ok else "active", "date_created": when, "date_updated": when}
    return {**told, "active_incidents": [] if ok else [incident]}


def statusio(when: str, *, ok: bool) -> dict[str, object]:
    """https://kb.status.io/developers/public-status-api"""
    state = {
        "updated": when,
        "status": "Operational" if ok else "Service Disruption",
        "status_code": 100 if ok else 500,
    }
    api = {"id": "a1", "name": "API", **state, "containers": [{"id": "b1", "name": "Google Compute Engine", **state}]}
    maintenance: dict[str, list[object]] = {"active": [], "upcoming": []}
    return {"result": {"status_overall": state, "status": [api], "incidents": [], "maintenance": maintenance}}


def google(when: str, *, ok: bool) -> list[dict[str, object]]:
    """https://status.cloud.google.com/incidents.schema.json"""
    product = {"title": "Vertex AI Online Prediction", "id": "sdXM79fz1FS6ekNpu37K"}
    incident: dict[str, object] = {
        "id": "n1",
        "number": "1",
        "begin": when,
        "created": when,
        "modified": when,
        "external_desc": "Vertex AI requests are failing",
        "status_impact": "SERVICE_OUTAGE",
        "severity": "high",
        "service_name": "Multiple Products",
        "affected_products": [product],
        "uri": "incidents/n1",
        "currently_affected_locations": [{"title": "Netherlands (europe-west4)", "id": "europe-west4"}],
    }
    past = {**incident, "id": "n0", "number": "0", "end": when, "external_desc": "Vertex AI requests were failing"}
    return [past] if ok else [incident, past]


PAGES: Mapping[str, Callable[[str, bool], object]] = {
    "github": lambda when, ok: statuspage("GitHub", "API Requests", when, ok=ok),
    "gitlab": lambda when, ok: statusio(when, ok=ok),
    "linear": lambda when, ok: statuspage("Linear", "EU Region - Linear API", when, ok=ok),
    "slack": lambda when, ok: slack(when, ok=ok),
    "vertex": lambda when, ok: google(when, ok=ok),
}
"""Connector → the body of its page."""


def page(connector: str, fault: str, now: float) -> object | None:
    """The body of a connector's page at `now` (Unix seconds) under a scripted fault; None: there is none."""
    speak = PAGES.get(connector)
    when = dt.datetime.fromtimestamp(now, dt.UTC).isoformat(timespec="seconds")
    return speak(when, fault not in TROUBLE) if speak else None
