"""Which connectors exist: names and lazy factories. Nothing is imported before it is used."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import cast

from registry.audit import Action
from registry.audit.trail import Trail
from registry.clean import clean
from registry.connector import Connector, ConnectorConfig, ConnectorFactory, ConnectorMetadata
from registry.discovery import NOTHING, Discovery
from registry.errors import (
    ConnectorError,
    ConnectorUnusable,
    DuplicateConnector,
    IncompatibleConnector,
    UnknownConnector,
)
from registry.ids import connector_id
from registry.validation import accept
from registry.versions import require_compatible


@dataclass(frozen=True, slots=True)
class Loaded:
    """A connector that can be used: its factory, its manifest, and its class where the factory is one."""

    factory: ConnectorFactory
    manifest: ConnectorMetadata
    cls: type[Connector] | None

    def validate(self, config: ConnectorConfig) -> None:
        """Raise `InvalidConfig` unless this connector can use `config`: asked on every write and on every load."""
        own = getattr(self.factory, "validate", None)
        if own is None:
            accept(self.manifest, config)
        else:
            own(config)


class Catalog:
    """The registered connectors.

    Args:
        builtin: name → ``module:Class``, imported when first loaded.
        found: connectors of other packages, imported in the same way; also as the attribute `found`.
        trail: told of every connector that is loaded, refused or unregistered.
    """

    def __init__(
        self, builtin: Mapping[str, str] | None = None, found: Discovery = NOTHING, *, trail: Trail | None = None
    ) -> None:
        self._entries: dict[str, str | tuple[ConnectorFactory, ConnectorMetadata | None]] = {
            **(builtin or {}),
            **{name: offer.target for name, offer in found.offers.items()},
        }
        self.found = found
        self._loaded: dict[str, Loaded] = {}
        self._refused: set[str] = set()
        self._trail = trail

    def register(self, name: str, factory: ConnectorFactory, *, manifest: ConnectorMetadata | None = None) -> None:
        """Add a connector. `manifest` may be left out when `factory` is a class that has one.

        Raises:
            InvalidId: the name is outside the alphabet.
            DuplicateConnector: the name is taken; nothing was changed.
        """
        if connector_id(name) in self._entries:
            raise DuplicateConnector(f"connector {name} is registered already: unregister it first or use another name")
        self._entries[name] = (factory, manifest)

    def unregister(self, name: str) -> None:
        """Forget a connector. Raises `UnknownConnector`."""
        if name not in self._entries:
            raise self._unknown(name)
        del self._entries[name]
        self._loaded.pop(name, None)
        self._note(Action.CONNECTOR_UNREGISTERED, name)

    def has(self, name: str) -> bool:
        """Is a connector of that name registered?"""
        return name in self._entries

    def list(self) -> builtins.list[str]:
        """The registered names, sorted."""
        return sorted(self._entries)

    def load(self, name: str) -> Loaded:
        """Import the connector if need be and check that it fits this framework.

        Raises:
            UnknownConnector, ConnectorUnusable, IncompatibleConnector
        """
        loaded = self._loaded.get(name)
        if loaded is None:
            try:
                loaded = self._load(name)
                require_compatible(loaded.manifest)
            except (ConnectorUnusable, IncompatibleConnector) as error:
                self._refuse(name, error)
                raise
            self._loaded[name] = loaded
            self._note(Action.CONNECTOR_LOADED, name, version=loaded.manifest.version)
        return loaded

    def _load(self, name: str) -> Loaded:
        entry = self._entries.get(name)
        if entry is None:
            raise self._unknown(name)
        factory, manifest = (_imported(name, entry), None) if isinstance(entry, str) else entry
        manifest = manifest or getattr(factory, "manifest", None)
        if not isinstance(manifest, ConnectorMetadata):
            raise ConnectorUnusable(f"connector {name} has no manifest: pass one to register()")
        if isinstance(entry, str) and manifest.name != name:
            raise ConnectorUnusable(f"connector {name} calls itself {manifest.name} in its manifest")
        cls = cast("type[Connector]", factory) if isinstance(factory, type) else None
        return Loaded(factory, manifest, cls)

    def _refuse(self, name: str, error: ConnectorError) -> None:
        if name not in self._refused:
            self._refused.add(name)
            self._note(Action.CONNECTOR_REFUSED, name, error=clean(str(error)))

    def _note(self, action: Action, name: str, **detail: str) -> None:
        if self._trail is not None:
            self._trail.note(action, connector=name, **detail)

    def _unknown(self, name: str) -> ConnectorError:
        for refusal in self.found.refused:
            if refusal.name == name:
                return ConnectorUnusable(refusal.reason)
        return UnknownConnector(f"no connector {name!r} is registered; there are: {', '.join(self.list())}")


def _imported(name: str, target: str) -> ConnectorFactory:
    module, _, attribute = target.partition(":")
    try:
        return cast("ConnectorFactory", attrgetter(attribute)(import_module(module)))
    except (Exception, SystemExit) as error:
        raise ConnectorUnusable(f"connector {name} cannot be imported from {target}: {type(error).__name__}") from error
