"""The versioned API, one file for each kind of thing."""

from registry.web.api import audit, configurations, connectors, health, incidents, live, maintenance, probes

__all__ = ["ROUTERS"]

ROUTERS = tuple(
    module.router for module in (probes, health, connectors, configurations, incidents, maintenance, audit, live)
)
"""The routes of each, in the order of the API's description."""
