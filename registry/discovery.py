"""Finds connectors in other installed packages: the entry points of the group ``connector_registry.connectors``.

Nothing of a package is imported here; that happens when its connector is first used, and then its failure is that
connector's alone. Who may own a name is decided here: a built-in keeps its name, and two packages that want the same
one both go without it, until a pin says whose it is. https://packaging.python.org/specifications/entry-points/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from packaging.utils import canonicalize_name

from registry.errors import InvalidId
from registry.ids import connector_id
from registry.versions import DISTRIBUTION

GROUP = "connector_registry.connectors"


@dataclass(frozen=True, slots=True)
class Offer:
    """A connector that a package offers: its name, where it is (``module:attribute``), and the package."""

    name: str
    target: str
    distribution: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An offer that is not taken up, and why: a sentence with what to do."""

    name: str
    distribution: str
    reason: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """What is installed: the offers by name, and what was refused."""

    offers: Mapping[str, Offer]
    refused: tuple[Refusal, ...] = ()


NOTHING = Discovery(MappingProxyType({}))


def discover(builtin: Mapping[str, str], pins: Mapping[str, str] = MappingProxyType({})) -> Discovery:
    """Look through the installed packages.

    Args:
        builtin: the built-in connectors, name → target.
        pins: name → the distribution whose connector it is, where several want it.
    """
    offers: dict[str, Offer] = {}
    refused: list[Refusal] = []
    by_name: dict[str, list[Offer]] = {}
    for offer in sorted((_offer(point) for point in entry_points(group=GROUP)), key=lambda found: found.distribution):
        try:
            by_name.setdefault(connector_id(offer.name), []).append(offer)
        except InvalidId as error:
            refused.append(Refusal(offer.name, offer.distribution, str(error)))
    for name, found in by_name.items():
        owned = [Offer(name, builtin[name], DISTRIBUTION)] if name in builtin else []
        pinned = [offer for offer in owned + found if offer.distribution == canonicalize_name(pins.get(name, ""))]
        if len(pinned) == 1 or (name not in pins and len(owned + found) == 1):
            offers[name] = (pinned or found)[0]
        else:
            refused += [Refusal(name, offer.distribution, _conflict(name, owned + found)) for offer in found]
    return Discovery(offers, (*refused, *_idle_pins(builtin, by_name, pins)))


def _offer(point: EntryPoint) -> Offer:
    distribution = canonicalize_name(point.dist.name) if point.dist else "?"
    return Offer(point.name, point.value.partition("[")[0].strip(), distribution)


def _conflict(name: str, offers: list[Offer]) -> str:
    owners = ", ".join(offer.distribution for offer in offers)
    return f'several packages offer a connector {name} ({owners}): set CONNECTOR_PINS to {{"{name}": "the one"}}'


def _idle_pins(
    builtin: Mapping[str, str], found: Mapping[str, list[Offer]], pins: Mapping[str, str]
) -> Iterator[Refusal]:
    """Pins that name a package which has no such connector: a misspelling, or it was uninstalled."""
    for name, pin in pins.items():
        wanted = canonicalize_name(pin)
        owners = [offer.distribution for offer in found.get(name, [])] + [DISTRIBUTION] * (name in builtin)
        if wanted not in owners:
            yield Refusal(name, wanted, f"CONNECTOR_PINS: {pin} offers no connector {name}: install it or drop the pin")
