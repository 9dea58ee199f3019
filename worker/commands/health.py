"""``connectors health``: everybody's verdicts, or one tenant's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.options import AsJson

if TYPE_CHECKING:
    from registry.bootstrap import Parts
    from worker.commands.exits import Exit

Tenant = Annotated[str | None, typer.Option("--tenant", "-t", metavar="T", help="Only this tenant.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Keep looking; with --json, a line for each transition.")]

EVERY = 1.0
"""Seconds between two looks of ``--watch``."""


def health(*, tenant: Tenant = None, as_json: AsJson = False, watch: Watch = False) -> None:
    """Show the verdicts in the cache: status, reason, age, and what to do. Never calls a vendor.

    Exit code: 0 all usable (healthy or degraded), 1 something is unhealthy, 3 something is unknown.
    """
    from worker.commands.exits import Exit
    from worker.commands.session import with_parts

    async def work(parts: Parts) -> Exit:
        if watch:
            await _watch(parts, tenant, as_json=as_json)
        return await _once(parts, tenant, as_json=as_json)

    try:
        code = with_parts(work)
    except KeyboardInterrupt:
        code = Exit.OK
    raise typer.Exit(code)


async def _once(parts: Parts, tenant: str | None, *, as_json: bool) -> Exit:
    from worker.commands.exits import exit_of_health
    from worker.commands.printing import console, note, print_json
    from worker.commands.reading import everybody, of_tenant
    from worker.commands.table import advice, health_table, summary, urgent

    statuses = await everybody(parts) if tenant is None else await of_tenant(parts, tenant)
    values = list(statuses.values())
    if as_json:
        print_json([status.as_dict() for status in values])
    elif not values:
        whom = f"tenant {tenant} has" if tenant else "there is"
        note(f"{whom} no scheduled connector: see `connectors tenants list`, or add one with `connectors config set`")
    else:
        screen = console()
        screen.print(health_table(statuses, screen))
        screen.print()
        screen.print(summary(values, screen))
        if urgent(values):
            screen.print()
            screen.print(advice(statuses))
    return exit_of_health(values)


async def _watch(parts: Parts, tenant: str | None, *, as_json: bool) -> None:
    import asyncio

    from rich.live import Live

    from worker.commands.printing import console, print_json
    from worker.commands.reading import Watcher
    from worker.commands.screen import page

    watcher, screen = Watcher(parts, tenant), console()
    if as_json or not screen.is_terminal:
        await _once(parts, tenant, as_json=as_json)
        while True:
            for status in await watcher.look():
                print_json(status.as_dict(), indent=None)
            await asyncio.sleep(EVERY)
    with Live(console=screen, auto_refresh=False) as live:
        while True:
            await watcher.look()
            live.update(page(watcher, screen), refresh=True)
            await asyncio.sleep(EVERY)
