"""The demo tenants: configurations for the demo vendors, as data in the shape of the tenants file.

A few tenants begin with a scripted fault (`demo_faults`), which their label tells.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TypedDict

from worker.demo.assertion import key_id

CONNECTORS = ("github", "gitlab", "linear", "slack", "vertex")
LOCATION = "europe-west4"

_BEGINNING = (
    (3, "slack", "revoked"),
    (5, "github", "expiring"),
    (7, "vertex", "missing_scope"),
    (9, "gitlab", "expired"),
    (11, "linear", "rate_limited"),
    (13, "github", "missing_scope"),
    (16, "slack", "slow"),
    (19, "gitlab", "maintenance"),
    (22, "vertex", "revoked"),
)


class DemoTenants(TypedDict):
    """The shape of a tenants file: tenant → connector → configuration."""

    tenants: dict[str, dict[str, dict[str, object]]]


def tenant_name(number: int) -> str:
    """The name of the `number`-th demo tenant, from 1."""
    return f"acme-{number:02d}"


def is_demo(tenant: str) -> bool:
    """Is this the name of a demo tenant?"""
    return re.fullmatch(r"acme-\d{2,}", tenant) is not None


def demo_faults(count: int) -> list[tuple[str, str, str]]:
    """(tenant, connector, fault) of those among `count` demo tenants that do not begin healthy."""
    return [(tenant_name(number), connector, fault) for number, connector, fault in _BEGINNING if number <= count]


def demo_tenants(count: int, base_url: str) -> DemoTenants:
    """`count` tenants with five connectors each, at the demo vendors under `base_url`.

    Secrets are clear text, made up, and useless elsewhere; Vertex AI gets a real RSA key, made for this process.
    """
    faults = {(tenant, connector): fault for tenant, connector, fault in demo_faults(count)}
    tenants: dict[str, dict[str, dict[str, object]]] = {}
    for tenant in map(tenant_name, range(1, count + 1)):
        tenants[tenant] = configs = _configs(tenant, base_url.rstrip("/"))
        for connector, config in configs.items():
            config["base_url"] = f"{base_url.rstrip('/')}/{connector}"
            if (tenant, connector) in faults:
                config["label"] = f"demo: {faults[tenant, connector]}"
    return {"tenants": tenants}


def _configs(tenant: str, base_url: str) -> dict[str, dict[str, object]]:
    return {
        "github": {"auth": _bearer(f"ghp_demo_{tenant}"), "settings": {"required_scopes": ["repo"]}},
        "gitlab": {"auth": _bearer(f"glpat-demo-{tenant}"), "settings": {"required_scopes": ["read_api"]}},
        "linear": {"auth": _bearer(f"lin_api_demo_{tenant}")},
        "slack": {"auth": _bearer(f"xoxb-demo-{tenant}"), "settings": {"required_scopes": ["users:read"]}},
        "vertex": {
            "auth": {"type": "service_account", "key": service_account_key(tenant, base_url)},
            "settings": {"project": f"demo-{tenant}", "location": LOCATION},
        },
    }


def _bearer(token: str) -> dict[str, str]:
    return {"type": "bearer", "token": token}


def service_account_key(tenant: str, base_url: str) -> str:
    """A Google service-account key file (JSON) of a demo tenant, whose tokens the demo vendors exchange."""
    name, pem = _private_key()
    key = {
        "type": "service_account",
        "project_id": f"demo-{tenant}",
        "private_key_id": name,
        "private_key": pem,
        "client_email": f"demo-{tenant}@demo-{tenant}.iam.gserviceaccount.com",
        "client_id": "100000000000000000000",
        "token_uri": f"{base_url}/google/token",
    }
    return json.dumps(key)


@functools.cache
def _private_key() -> tuple[str, str]:
    """Id and PEM of one RSA key for all demo tenants: making one takes a tenth of a second."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key_id(key.public_key()), pem.decode()
