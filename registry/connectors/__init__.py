"""The built-in connectors: name → ``module:Class``. A connector is one file here and one line below."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CONNECTORS: Mapping[str, str] = MappingProxyType(
    {
        "github": "registry.connectors.github:GitHub",
        "gitlab": "registry.connectors.gitlab:GitLab",
        "linear": "registry.connectors.linear:Linear",
        "slack": "registry.connectors.slack:Slack",
        "vertex": "registry.connectors.vertex:Vertex",
    }
)
