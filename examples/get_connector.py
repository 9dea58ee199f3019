"""Get a tenant's connector and use it: ``python examples/get_connector.py acme-01 slack``."""

from __future__ import annotations

import asyncio
import sys

import registry
from registry.errors import ConnectorUnhealthy, NotConfigured


async def main(tenant: str, name: str) -> int:
    """Exit code: 0 when the connector can be used."""
    async with registry.create_registry() as reg:
        try:
            # For as long as this block takes the connector stays open, whatever is reconfigured meanwhile.
            async with reg.use(name, tenant_id=tenant) as connector:
                manifest = connector.manifest
                print(f"{tenant} may use {manifest.title} (connector {name} {manifest.version})")
                return 0
        except ConnectorUnhealthy as error:
            print(f"not now: {error.status.reason.value}, fault: {error.status.fault.value}. {error.status.action}")
        except NotConfigured as error:
            print(error)
        return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:3])))
