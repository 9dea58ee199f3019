"""Every error this package raises.

::

    RegistryError
    ├── InvalidId (ValueError)          a connector or tenant id outside its alphabet
    ├── ConnectorError
    │   ├── UnknownConnector (LookupError)
    │   ├── DuplicateConnector
    │   ├── IncompatibleConnector       its manifest excludes this framework version
    │   ├── ConnectorUnusable           its module or factory failed
    │   └── ConnectorUnhealthy          this tenant's pair does not work now; `.status` says why
    ├── ConfigError
    │   ├── NotConfigured (LookupError) this tenant has no such connector
    │   ├── InvalidConfig (ValueError)  what is wrong, and in which field
    │   └── ConflictError               the configuration changed meanwhile
    ├── SecretError
    │   ├── SecretNotFound              the reference names nothing, or is not this tenant's
    │   └── SecretUnavailable           the secret store did not answer
    ├── StoreUnavailable                the configuration store did not answer
    ├── CacheUnavailable                Redis did not answer
    ├── WrongLoop                       used from another event loop or process than the first time
    └── CheckFailed                     raised by a connector to end its check with a reason

Messages are one sentence for a person: what, where, what to do. They never contain a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.health import Fault, HealthStatus, Reason
    from registry.stores import StoredConfig


class RegistryError(Exception):
    """The root: ``except RegistryError`` catches everything this package raises on purpose."""


class InvalidId(RegistryError, ValueError):
    """A connector or tenant id is outside its alphabet."""


class ConnectorError(RegistryError):
    """Something is wrong with a connector itself, whatever the tenant."""


class UnknownConnector(ConnectorError, LookupError):
    """No connector of that name is registered."""


class DuplicateConnector(ConnectorError):
    """A connector of that name is registered already."""


class IncompatibleConnector(ConnectorError):
    """The connector's manifest excludes this version of the framework."""


class ConnectorUnusable(ConnectorError):
    """The connector's module cannot be imported, or its factory failed."""


class ConnectorUnhealthy(ConnectorError):
    """The pair does not work at present; `status` is the verdict, with the reason and what to do."""

    def __init__(self, status: HealthStatus) -> None:
        scope = f"tenant {status.tenant_id}" if status.tenant_id else "everybody"
        super().__init__(f"{status.connector} does not work for {scope}: {status.reason.value}. {status.action}")
        self.status = status


class ConfigError(RegistryError):
    """Something is wrong with one tenant's configuration."""


class NotConfigured(ConfigError, LookupError):
    """The tenant has no configuration for this connector. Not the same as a store that is away."""


class InvalidConfig(ConfigError, ValueError):
    """The configuration cannot be accepted; the message names the field."""


class ConflictError(ConfigError):
    """The configuration was changed by someone else since it was read: read it again and retry."""

    written: tuple[StoredConfig, ...] = ()
    """What the same call had written before, where it does not write all or nothing."""


class SecretError(RegistryError):
    """A secret could not be had."""


class SecretNotFound(SecretError):
    """The reference names nothing, or lies outside the tenant's namespace."""


class SecretUnavailable(SecretError):
    """The secret store did not answer. Ours to mend, never the tenant's."""


class StoreUnavailable(RegistryError):
    """The configuration store did not answer within its budget."""


class CacheUnavailable(RegistryError):
    """Redis did not answer within its budget."""


class WrongLoop(RegistryError):
    """A registry belongs to the event loop and the process that first used it: make one for each."""


class CheckFailed(RegistryError):
    """Ends a check: the connector says why it does not work.

    Args:
        reason: a member of the closed list, whose table row gives status and default fault.
        message: one sentence; cut and masked before it is kept.
        fault: who must act, where the evidence says otherwise than the reason's row.
        evidence: small facts worth keeping (HTTP status, the vendor's error code, request id).
        retry_after: seconds to leave the vendor alone, if it said so.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        fault: Fault | None = None,
        evidence: Mapping[str, str | int | float | bool] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.fault = fault
        self.evidence = dict(evidence or {})
        self.retry_after = retry_after
