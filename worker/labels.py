"""What a tenant is called in metrics: by its id, by an opaque label, or not at all.

An opaque label is a keyed hash: always the same for a tenant, and of no meaning to who has not the key. `connectors
tenants label` and `connectors tenants named` translate between the two.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from registry.settings import Settings

TenantLabel = Callable[[str], str]
"""Tenant id → the value of `tenant_id` in metrics."""

LENGTH = 16
"""Hexadecimal digits of an opaque label: among a million tenants two alike have a chance of 1 in 37 million."""


def tenant_label(settings: Settings) -> TenantLabel | None:
    """How `settings` want tenants called; None: there are to be no series of tenants."""
    if settings.metrics_tenants == "plain":
        return str
    key = settings.metrics_tenants_key
    return opaque(key.get_secret_value().encode()) if settings.metrics_tenants == "opaque" and key else None


def opaque(key: bytes) -> TenantLabel:
    """Labels made with `key`."""
    return lambda tenant: hmac.digest(key, tenant.encode(), "sha256").hex()[:LENGTH]
