"""The dashboard: pages for people, rendered here, on what the API knows. They work without JavaScript."""

from registry.web.dashboard import audit, badges, connectors, incidents, maintenance, overview, session, tenants

__all__ = ["ROUTERS"]

ROUTERS = tuple(
    module.router for module in (session, overview, tenants, connectors, incidents, maintenance, audit, badges)
)
"""The routes of each page."""
