"""``connectors tenants label`` and ``named``: what tenants are called in metrics, and who is called so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.exits import Exit

if TYPE_CHECKING:
    from registry.bootstrap import Parts
    from worker.labels import TenantLabel

TenantId = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id.")]
Label = Annotated[str, typer.Argument(metavar="LABEL", help="A tenant_id as metrics show it.")]


def label(tenant: TenantId) -> None:
    """Print what a tenant is called in metrics (METRICS_TENANTS)."""
    from registry.ids import tenant_id
    from registry.settings import load_settings
    from worker.commands.printing import say
    from worker.labels import tenant_label

    say(_shown(tenant_label(load_settings()))(tenant_id(tenant)))


def named(label: Label) -> None:
    """Print the tenant that metrics call so. Exit code: 0, or 1 when there is none."""
    from registry import keys
    from worker.commands.printing import note, say
    from worker.commands.session import with_parts
    from worker.labels import tenant_label

    async def work(parts: Parts) -> list[str]:
        called, found = _shown(tenant_label(parts.settings)), set()
        for shard in range(parts.settings.shards):
            async for tenant, _ in parts.redis.zscan_iter(keys.tenants(shard), count=1_000):
                if called(tenant.decode()) == label:
                    found.add(tenant.decode())
        return sorted(found)

    found = with_parts(work)
    for tenant in found:
        say(tenant)
    if not found:
        note(f"no tenant is called {label} in metrics: see that METRICS_TENANTS_KEY is the one they were made with")
        raise typer.Exit(Exit.PROBLEM)


def _shown(label: TenantLabel | None) -> TenantLabel:
    from worker.commands.exits import BadInput

    if label is None:
        raise BadInput("METRICS_TENANTS=off: tenants are not in the metrics at all")
    return label
