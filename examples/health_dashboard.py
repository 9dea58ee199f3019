"""A tenant's health in the terminal, as it changes: ``python examples/health_dashboard.py acme-01``.

With a number after the tenant it ends after so many changes.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing

from rich.console import Console
from rich.table import Table

import registry

COLOURS = {"healthy": "green", "degraded": "yellow", "unhealthy": "red", "unknown": "magenta"}


async def show(reg: registry.ConnectorRegistry, tenant: str) -> None:
    """One page: one round trip to the cache, no call to a vendor."""
    table = Table("connector", "status", "why", "since", "what to do", title=tenant)
    for name, status in (await reg.health_check_all(tenant_id=tenant)).items():
        if status.reason is not registry.Reason.NOT_CONFIGURED:
            colour = COLOURS[status.status.value]
            table.add_row(
                name,
                f"[{colour}]{status.status.value}[/]",
                f"{status.reason.value} ({status.fault.value})",
                status.since or "",
                status.action,
            )
    Console().print(table)


async def main(tenant: str, changes: int | None = None) -> None:
    """Show the page, and again whenever something has changed."""
    async with registry.create_registry() as reg, aclosing(reg.watch(tenant)) as watch:
        async for item in watch:
            if isinstance(item, registry.Transition):
                print(f"{item.connector} is now {item.status.value}: {item.reason.value}")
                changes = changes and changes - 1
            await show(reg, tenant)
            if changes == 0:
                return


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None))
