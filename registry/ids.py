"""Ids of connectors and tenants: validated once, at the door, so that keys can be built without escaping.

A connector id has no ``:`` in its alphabet, so ``connector:tenant`` names exactly one pair. The SYSTEM scope
(``*``) lies outside the alphabet of tenants, so no tenant can be called like it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from registry.errors import InvalidId

SYSTEM = "*"
"""The scope of service checks: made once per endpoint for everybody, without a credential."""

_CONNECTOR = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_TENANT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:@-]{0,126}[A-Za-z0-9])?")
_SPECIAL = re.compile(r"[^A-Za-z0-9]")
_ESCAPE = re.compile(r"_([0-9a-f]{2})")


class Pair(NamedTuple):
    """One connector of one tenant; ``tenant`` is `SYSTEM` (or begins with it) for a service check."""

    connector: str
    tenant: str

    def __str__(self) -> str:
        return f"{self.connector}:{self.tenant}"

    @property
    def is_service(self) -> bool:
        """Is this a service check, which belongs to no tenant?"""
        return self.tenant.startswith(SYSTEM)

    @classmethod
    def parse(cls, text: str) -> Pair:
        """The inverse of ``str``: ``github:acme:eu`` is connector ``github`` of tenant ``acme:eu``."""
        connector, _, tenant = text.partition(":")
        return cls(connector, tenant)


def connector_id(value: object) -> str:
    """Return `value` if it is a valid connector id, else raise `InvalidId`."""
    if isinstance(value, str) and _CONNECTOR.fullmatch(value):
        return value
    raise InvalidId(
        f"connector id {_shown(value)} is not valid: use 1 to 64 of a-z, 0-9, '.', '_', '-', "
        "beginning and ending with a letter or digit"
    )


def tenant_id(value: object) -> str:
    """Return `value` if it is a valid tenant id, else raise `InvalidId`."""
    if isinstance(value, str) and _TENANT.fullmatch(value):
        return value
    raise InvalidId(
        f"tenant id {_shown(value)} is not valid: use 1 to 128 of A-Z, a-z, 0-9, '.', '_', ':', '@', '-', "
        "beginning and ending with a letter or digit"
    )


def scope_id(value: str | None) -> str:
    """The scope a public ``tenant_id`` argument means: None is `SYSTEM`, never "any tenant"."""
    return SYSTEM if value is None else tenant_id(value)


def encoded(value: str) -> str:
    """`value` spelled with ``[A-Za-z0-9_]`` only, never two alike: every other character becomes ``_xx`` (hex).

    For names outside Redis (documents, environment variables, files, cloud secrets). No encoded id begins or ends
    with ``_`` or holds ``__`` or ``-``, so these separate it from what follows.

    >>> encoded("acme:eu")
    'acme_3aeu'
    """
    return _SPECIAL.sub(lambda found: f"_{ord(found[0]):02x}", value)


def decoded(value: str) -> str:
    """The inverse of `encoded`."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), value)


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
