"""What arrives at the addresses that an operator has the system tell, and who each of them belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from registry.ids import Pair


@dataclass(frozen=True, slots=True)
class Address:
    """Where messages of certain tenants or connectors go; none named means all."""

    tenants: frozenset[str] = frozenset()
    connectors: frozenset[str] = frozenset()

    def may_know(self, tenant: str | None, connector: str | None) -> bool:
        """Is news of these two for it? What concerns no tenant, or no connector, is for those who name none."""
        return (not self.tenants or tenant in self.tenants) and (not self.connectors or connector in self.connectors)


@dataclass(frozen=True, slots=True)
class Message:
    """What was taken at an address. `kind` is its type, `at_ms` when what it tells of happened (Unix milliseconds).

    `after` is the status and reason that its pair has turned to; None for what is told of no pair. `text` is all of it.
    """

    address: str
    id: str
    kind: str
    at_ms: int
    tenant: str | None
    connector: str | None
    after: tuple[str, str] | None
    text: str

    @property
    def pair(self) -> Pair | None:
        """The pair it tells of."""
        return Pair(self.connector, self.tenant) if self.connector and self.tenant else None
