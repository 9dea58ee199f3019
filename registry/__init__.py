"""For this tenant and this connector: does it work right now, and if not, whose fault is it and what to do.

>>> import registry
>>> registry.Reason.CREDENTIAL_REJECTED.value
'credential_rejected'

Names are imported when first used, so that ``import registry`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.bootstrap import create_registry, default
    from registry.connector import (
        Connector,
        ConnectorConfig,
        ConnectorFactory,
        ConnectorMetadata,
    )
    from registry.errors import RegistryError
    from registry.facade import ConnectorRegistry
    from registry.health import Fault, HealthCheck, HealthStatus, Quota, Reason, Status, Verdict
    from registry.history import History
    from registry.pages import Page, Wanted
    from registry.route import Route
    from registry.settings import Settings
    from registry.view import HealthView
    from registry.watch import Gap, Transition

_HOMES = {
    "bootstrap": ("create_registry", "default"),
    "connector": ("Connector", "ConnectorConfig", "ConnectorFactory", "ConnectorMetadata"),
    "errors": ("RegistryError",),
    "facade": ("ConnectorRegistry",),
    "health": ("Fault", "HealthCheck", "HealthStatus", "Quota", "Reason", "Status", "Verdict"),
    "history": ("History",),
    "pages": ("Page", "Wanted"),
    "route": ("Route",),
    "settings": ("Settings",),
    "view": ("HealthView",),
    "watch": ("Gap", "Transition"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Connector",
    "ConnectorConfig",
    "ConnectorFactory",
    "ConnectorMetadata",
    "ConnectorRegistry",
    "Fault",
    "Gap",
    "HealthCheck",
    "HealthStatus",
    "HealthView",
    "History",
    "Page",
    "Quota",
    "Reason",
    "RegistryError",
    "Route",
    "Settings",
    "Status",
    "Transition",
    "Verdict",
    "Wanted",
    "create_registry",
    "default",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
