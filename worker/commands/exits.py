"""How a command ends: its exit code, and bad input as one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

from registry.errors import (
    CacheUnavailable,
    ConnectorUnusable,
    IncompatibleConnector,
    RegistryError,
    SecretUnavailable,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from registry.health import HealthStatus

_CANNOT_TELL = (CacheUnavailable, StoreUnavailable, SecretUnavailable)
_BROKEN = (ConnectorUnusable, IncompatibleConnector)


class Exit(IntEnum):
    """The documented exit codes."""

    OK = 0
    PROBLEM = 1
    """Something is unhealthy, missing or wrong."""
    USAGE = 2
    """Bad input: nothing was changed."""
    UNKNOWN = 3
    """We cannot tell: a server of ours did not answer, or nothing was checked yet."""


class BadInput(Exception):
    """What was given cannot be used: a sentence with what, where and what to do; one line a problem."""


class Failed(Exception):
    """What was asked for did not come about, though the input was right; a sentence like `BadInput`'s."""


def exit_of(error: RegistryError | BadInput | Failed) -> Exit:
    """The exit code of a command that ended by `error`."""
    if isinstance(error, _CANNOT_TELL):
        return Exit.UNKNOWN
    return Exit.PROBLEM if isinstance(error, (*_BROKEN, Failed)) else Exit.USAGE


def exit_of_health(statuses: Iterable[HealthStatus]) -> Exit:
    """Unhealthy outweighs unknown, unknown outweighs healthy; nothing at all is unknown. Degraded still works."""
    from registry.health import Status

    found = {status.status for status in statuses}
    if Status.UNHEALTHY in found:
        return Exit.PROBLEM
    return Exit.UNKNOWN if Status.UNKNOWN in found or not found else Exit.OK
