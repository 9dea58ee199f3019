"""Versions: this framework's own, and whether a connector's manifest accepts it (PEP 440)."""

from __future__ import annotations

from importlib.metadata import version

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from registry.connector import ConnectorMetadata
from registry.errors import IncompatibleConnector

DISTRIBUTION = "connector-registry"


def framework_version() -> str:
    """The version of this distribution, as installed."""
    return version(DISTRIBUTION)


def require_compatible(manifest: ConnectorMetadata) -> None:
    """Raise `IncompatibleConnector` unless the manifest's range holds this framework's version.

    A pre-release of the framework counts as the release it leads to, so that connectors can be tried on it.
    """
    ours = framework_version()
    try:
        fits = SpecifierSet(manifest.framework).contains(ours, prereleases=True)
    except InvalidSpecifier:
        raise IncompatibleConnector(
            f"connector {manifest.name} {manifest.version} declares the framework range {manifest.framework!r}, "
            "which is no version specifier (PEP 440)"
        ) from None
    if not fits:
        raise IncompatibleConnector(
            f"connector {manifest.name} {manifest.version} needs framework {manifest.framework}, this is {ours}: "
            "install a version of the connector made for it"
        )
