"""``connectors tokens``: who may use the HTTP API and the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from registry.roles import Role
from worker.commands.exits import Failed
from worker.commands.options import AsJson

if TYPE_CHECKING:
    from pydantic import SecretStr

    from registry.access import Grant
    from registry.bootstrap import Parts

tokens = typer.Typer(help="Who may use the HTTP API and the dashboard.", no_args_is_help=True)

OfTenant = Annotated[
    str | None, typer.Option("--tenant", "-t", metavar="T", help="Only this tenant; without it, every one.")
]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="What it is for; at most 200 characters.")]
Days = Annotated[
    float | None, typer.Option("--days", metavar="N", help="How long it is valid; default: until revoked.")
]


@tokens.command()
def create(
    *,
    role: Annotated[Role, typer.Option("--role", "-r", help="What it may do.")] = Role.READER,
    tenant: OfTenant = None,
    note: Note = "",
    days: Days = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once: only its hash is kept.

    A reader sees verdicts; an operator may also check, announce maintenance and see configurations; an admin may also
    change configurations and read the audit log.
    """
    from worker.commands.printing import note as hint
    from worker.commands.printing import print_json, say
    from worker.commands.session import actor, with_parts

    async def work(parts: Parts) -> tuple[Grant, SecretStr]:
        return await parts.access.create(role, actor=actor(), tenant=tenant, note=note, days=days)

    grant, token = with_parts(work)
    try:
        if as_json:
            print_json({**grant.as_dict(), "token": token.get_secret_value()})
        else:
            say(token.get_secret_value())
    except (Failed, OSError):  # nobody will ever know it
        with_parts(lambda parts: parts.access.revoke(grant.id, actor=actor()))
        raise
    if not as_json:
        hint(f"{grant.id}: {role.value} of {tenant or 'every tenant'}; it is not shown again")


@tokens.command("list")
def list_tokens(*, as_json: AsJson = False) -> None:
    """Show the tokens that are valid, without their secrets."""
    from worker.commands.printing import console, note, print_json
    from worker.commands.session import with_parts

    async def work(parts: Parts) -> tuple[Grant, ...]:
        return await parts.access.grants()

    found = with_parts(work)
    if as_json:
        print_json([grant.as_dict() for grant in found])
    elif not found:
        note("there is no token: `connectors tokens create` makes one")
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        titles = ("id", "role", "tenant", "created", "expires", "actor", "note")
        for title in titles:
            table.add_column(title, overflow="fold")
        for grant in found:
            row = grant.as_dict()
            table.add_row(*(Text(str(row[title] or "-")) for title in titles))
        console().print(table)


@tokens.command()
def revoke(id_: Annotated[str, typer.Argument(metavar="ID", help="As `connectors tokens list` shows it.")]) -> None:
    """Make a token worthless, everywhere within seconds."""
    from worker.commands.printing import say
    from worker.commands.session import actor, with_parts

    async def work(parts: Parts) -> Grant:
        return await parts.access.revoke(id_, actor=actor())

    say(f"revoked {with_parts(work)!r}")
