"""Which connector to use for a tenant now, and why not the others: pure functions of the tenant's statuses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from registry.health import HealthStatus, Reason, Status

Fits = Callable[[HealthStatus], bool]


@dataclass(frozen=True, slots=True)
class Route:
    """The choice: `connector` is None when none is usable; `refused` tells why each other name was not chosen.

    `panic` is set when so much of the tenant is unknown that our own monitoring is to be distrusted, and the choice
    was therefore made by what was last known: it tells so in a sentence.
    """

    connector: str | None
    status: HealthStatus | None
    refused: Mapping[str, str]
    panic: str | None = None

    def __bool__(self) -> bool:
        return self.connector is not None

    @property
    def explanation(self) -> str:
        """The whole decision, one line a name."""
        lines = [f"{name}: {why}" for name, why in self.refused.items()]
        if self.status is not None:
            lines.insert(0, f"{self.connector}: chosen, {self.status.status.value} ({self.status.reason.value})")
        return "\n".join([self.panic, *lines] if self.panic else lines)


def choose(
    names: Sequence[str],
    statuses: Mapping[str, HealthStatus],
    *,
    allow_unknown: bool = False,
    panic: str | None = None,
) -> Route:
    """The first healthy one in the caller's order, else the first degraded one; unknown ones only if so asked.

    >>> from registry.health import Fault
    >>> slow = HealthStatus("slack", "acme", Status.DEGRADED, Reason.SLOW, Fault.VENDOR, read_ms=0)
    >>> good = HealthStatus("linear", "acme", Status.HEALTHY, Reason.OK, Fault.NONE, read_ms=0)
    >>> choose(["slack", "linear"], {"slack": slow, "linear": good}).connector
    'linear'

    Args:
        names: in order of preference; one without a status is refused as not registered.
        allow_unknown: with nothing better, take one that is configured but unknown, last known good ones first.
        panic: what `distrust` says; unknown ones are then allowed too.
    """
    known = [statuses[name] for name in dict.fromkeys(names) if name in statuses]
    for fits in (*_USABLE, *(_UNKNOWN if allow_unknown or panic else ())):
        for status in known:
            if fits(status):
                distrusted = panic if status.status is Status.UNKNOWN else None
                return Route(status.connector, status, _refusals(names, statuses, status.connector), distrusted)
    return Route(None, None, _refusals(names, statuses, None), panic)


def distrust(statuses: Collection[HealthStatus]) -> str | None:
    """Is more than half of a tenant's pairs unknown? Then the monitoring is what is broken, says the sentence.

    A single pair without any check does not count: it is a new or changed one.
    """
    pairs = [status for status in statuses if status.reason is not Reason.NOT_CONFIGURED]
    dark = [status for status in pairs if status.status is Status.UNKNOWN]
    unchecked = [status for status in dark if status.reason is Reason.NOT_CHECKED]
    if len(unchecked) == 1:
        dark.remove(unchecked[0])
    if not dark or 2 * len(dark) <= len(pairs):
        return None
    return f"{len(dark)} of {len(pairs)} connectors are unknown: chosen by what was last known, not by current verdicts"


_USABLE: tuple[Fits, ...] = (
    lambda status: status.status is Status.HEALTHY,
    lambda status: status.status is Status.DEGRADED,
)

_UNKNOWN: tuple[Fits, ...] = (
    lambda status: _dark(status) and status.last_known is Status.HEALTHY,
    lambda status: _dark(status) and status.last_known is Status.DEGRADED,
    lambda status: _dark(status) and status.last_known is None,
)


def _dark(status: HealthStatus) -> bool:
    return status.status is Status.UNKNOWN and status.reason is not Reason.NOT_CONFIGURED


def _refusals(names: Sequence[str], statuses: Mapping[str, HealthStatus], chosen: str | None) -> dict[str, str]:
    return {name: _why(statuses.get(name)) for name in names if name != chosen}


def _why(status: HealthStatus | None) -> str:
    if status is None:
        return "no connector of that name is registered"
    if status.status is Status.HEALTHY:
        return "usable, but another comes first in the order asked for"
    return f"{status.status.value}: {status.reason.value}. {status.action}".strip()
