"""What may be done through the HTTP API, and the roles that may do it. Nothing else is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Right(StrEnum):
    """What a token may do. Closed."""

    READ = "read"
    """Verdicts, histories, transitions, incidents, windows, which connectors and tenants there are."""
    CHECK = "check"
    """Have a check made now."""
    MAINTAIN = "maintain"
    """Announce and end maintenance windows."""
    INSPECT = "inspect"
    """See configurations; a secret is never shown, not even to whoever gave it."""
    CONFIGURE = "configure"
    """Write, test and delete configurations."""
    AUDIT = "audit"
    """Read the audit log."""


class Role(StrEnum):
    """A token's role. Closed."""

    READER = "reader"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rights(self) -> frozenset[Right]:
        """What the role may do."""
        return RIGHTS[self]


_READER = frozenset({Right.READ})
_OPERATOR = _READER | {Right.CHECK, Right.MAINTAIN, Right.INSPECT}

RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.READER: _READER,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: frozenset(Right),
}
