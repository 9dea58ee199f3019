"""``connectors tenants``: who has which connectors, and many configurations at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.exits import BadInput, Exit
from worker.commands.options import AsJson, Yes

if TYPE_CHECKING:
    from registry.bootstrap import Parts
    from registry.stores import StoredConfig
    from worker.commands.plan import Plan

tenants = typer.Typer(help="Tenants and all their configurations.", no_args_is_help=True)

TenantId = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The tenants file (YAML); - reads stdin.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change and write nothing.")]
Prune = Annotated[bool, typer.Option("--prune", help="Also remove every configuration the file leaves out.")]


@tenants.command("list")
def list_tenants(*, as_json: AsJson = False) -> None:
    """List the tenants with their connectors. Exit code: 0, or 1 when a stored configuration is broken."""
    from worker.commands.printing import note, print_json, say
    from worker.commands.session import with_parts

    async def work(parts: Parts) -> tuple[dict[str, list[str]], list[str]]:
        from registry.stores import Broken
        from worker.commands.plan import stored_pairs

        found: dict[str, list[str]] = {}
        broken: list[str] = []
        async for row in stored_pairs(parts):
            found.setdefault(row.pair.tenant, []).append(row.pair.connector)
            if isinstance(row, Broken):
                broken.append(row.error)
        return found, broken

    found, broken = with_parts(work)
    if as_json:
        print_json(found)
    else:
        for tenant, connectors in found.items():
            say(f"{tenant}  {', '.join(connectors)}")
        if not found:
            note("there is no tenant: `connectors tenants import FILE` or `connectors config set` adds one")
    for error in broken:
        note(error)
    raise typer.Exit(Exit.PROBLEM if broken else Exit.OK)


@tenants.command()
def show(tenant: TenantId, *, as_json: AsJson = False) -> None:
    """Show one tenant's configurations: secrets as references, sealed ones not at all."""
    from worker.commands.plan import plain, reference
    from worker.commands.printing import print_json, say_yaml
    from worker.commands.session import with_parts

    rows = [
        {
            "connector": stored.pair.connector,
            "revision": stored.revision,
            "actor": stored.actor,
            "updated_at": _moment(stored),
            "config": plain(stored.config),
            "secrets": {f"auth.{name}": reference(value) for name, value in stored.config.secrets()},
        }
        for stored in with_parts(lambda parts: _of_tenant(parts, tenant))
    ]
    if as_json:
        print_json(rows)
        return
    say_yaml({tenant: rows})


@tenants.command("import")
def import_file(
    file: File, *, dry_run: DryRun = False, prune: Prune = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Write every configuration of a tenants file, all or nothing. What has not changed is not written.

    Everything is validated first, and everything that is wrong is told with its line: exit code 2, nothing written.
    """
    from worker.commands.plan import Action, carry_out, make_plan
    from worker.commands.printing import note, print_json
    from worker.commands.session import actor, with_parts
    from worker.commands.tenants_file import read_tenants

    asked = read_tenants(file)

    async def work(parts: Parts) -> Plan:
        plan = await make_plan(parts, asked, prune=(lambda _: True) if prune else None)
        removed = len(plan.of(Action.REMOVED))
        if not dry_run:
            if removed and not yes:
                confirm(f"Remove {removed} configurations that {asked.name} leaves out?")
            if not await carry_out(parts, plan, actor=actor()):
                note("Redis did not answer: stored, and checked as soon as the system runs again")
        return plan

    plan = with_parts(work)
    if as_json:
        print_json({"written": not dry_run, "steps": [step.as_dict() for step in plan.steps]})
    else:
        _tell(plan, dry_run=dry_run)


@tenants.command("export")
def export_file() -> None:
    """Print every configuration as a tenants file. Secrets are references; sealed ones open only with the same key.

    Exit code: 0, or 1 when a stored configuration is broken and therefore left out.
    """
    from worker.commands.printing import note, say_yaml
    from worker.commands.session import with_parts

    async def work(parts: Parts) -> tuple[dict[str, dict[str, object]], list[str]]:
        from registry.stores import Broken
        from worker.commands.plan import stored_pairs

        found: dict[str, dict[str, object]] = {}
        broken: list[str] = []
        async for row in stored_pairs(parts):
            if isinstance(row, Broken):
                broken.append(row.error)
            else:
                document = row.config.model_dump(mode="json", exclude_none=True, exclude_defaults=False)
                found.setdefault(row.pair.tenant, {})[row.pair.connector] = document
        return found, broken

    found, broken = with_parts(work)
    say_yaml({"tenants": found})
    for error in broken:
        note(error)
    raise typer.Exit(Exit.PROBLEM if broken else Exit.OK)


@tenants.command()
def delete(tenant: TenantId, *, yes: Yes = False) -> None:
    """Remove everything of a tenant: configurations, their history, sealed secrets, verdicts. Asks first.

    The audit log keeps that it was there, and who removed it.
    """
    from worker.commands.printing import say
    from worker.commands.session import actor, with_parts

    async def work(parts: Parts) -> int:
        from registry.ids import tenant_id

        names = await parts.store.list_connectors(tenant_id(tenant))
        if not yes:
            confirm(f"Delete tenant {tenant} with {len(names)} configurations?")
        return await parts.configurations.offboard(tenant, actor=actor())

    say(f"deleted tenant {tenant} with {with_parts(work)} configurations")


def confirm(question: str) -> None:
    """Ask on the terminal; raise `BadInput` without one, and on a no."""
    if not sys.stdin.isatty():
        raise BadInput(f"{question} Not on a terminal, so nothing was changed: add --yes")
    if not typer.confirm(question):
        raise BadInput("nothing was changed")


async def _of_tenant(parts: Parts, tenant: str) -> list[StoredConfig]:
    from registry.errors import NotConfigured
    from registry.ids import Pair, tenant_id

    names = await parts.store.list_connectors(tenant_id(tenant))
    if not names:
        raise NotConfigured(f"tenant {tenant} has no configuration: `connectors tenants list` shows those that have")
    return [await parts.store.get_config(Pair(name, tenant)) for name in names]


def _moment(stored: StoredConfig) -> str | None:
    from registry.health import rfc3339

    return rfc3339(stored.updated_ms)


def _tell(plan: Plan, *, dry_run: bool) -> None:
    from worker.commands.plan import Action
    from worker.commands.printing import say

    marks = {Action.ADDED: "+", Action.CHANGED: "~", Action.REMOVED: "-"}
    for step in plan.of(*marks):
        say(f"{marks[step.action]} {step.pair.tenant} {step.pair.connector}: {step.action.value}")
        for change in step.changes:
            say(f"    {change}")
    say(f"{plan.summary()}{'; nothing was written (--dry-run)' if dry_run else ''}")
