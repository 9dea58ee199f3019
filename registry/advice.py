"""Advice that differs between vendors only by name and status page."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from registry.health import REASONS, Fault, Reason

ADVISED: frozenset[Reason] = frozenset(
    reason for reason, row in REASONS.items() if row.fault in (Fault.TENANT, Fault.VENDOR)
)
"""The reasons that a check of a connector may conclude: each needs a sentence in the connector's table."""


def advice(title: str, status_page: str, own: Mapping[Reason, str]) -> Mapping[Reason, str]:
    """A connector's whole table: `own` sentences, and the common ones for what the vendor has to mend."""
    follow = f"follow {status_page}"
    return MappingProxyType(
        {
            Reason.SLOW: f"Nothing to do yet: {title} answers late, {follow}.",
            Reason.VENDOR_ERROR: f"Nothing for the tenant to do: {title} fails, {follow}.",
            Reason.BAD_RESPONSE: f"Check that the address is {title}'s API; if it is, {follow}.",
            Reason.TIMEOUT: f"Nothing for the tenant to do: {title} did not answer in time, {follow}.",
            Reason.UNREACHABLE: f"Check the configured address; if it is right, {follow}.",
            Reason.MISCONFIGURED: f"Correct the tenant's {title} configuration as the error says.",
            **own,
        }
    )
