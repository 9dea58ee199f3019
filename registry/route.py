"""Which connector to use for a tenant now, and why not the others: a pure function of their statuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.health import HealthStatus, Status


@dataclass(frozen=True, slots=True)
class Route:
    """The choice: `connector` is None when none is usable; `refused` tells why each other name was not chosen."""

    connector: str | None
    status: HealthStatus | None
    refused: Mapping[str, str]

    def __bool__(self) -> bool:
        return self.connector is not None


def choose(names: Sequence[str], statuses: Mapping[str, HealthStatus]) -> Route:
    """The first healthy one in the caller's order, else the first degraded one."""
    for wanted in (Status.HEALTHY, Status.DEGRADED):
        for name in names:
            if statuses[name].status is wanted:
                refused = {other: _why(statuses[other]) for other in names if other != name}
                return Route(name, statuses[name], refused)
    return Route(None, None, {name: _why(statuses[name]) for name in names})


def _why(status: HealthStatus) -> str:
    if status.status is Status.HEALTHY:
        return "usable, but another comes first in the order asked for"
    return f"{status.status.value}: {status.reason.value}. {status.action}".strip()
