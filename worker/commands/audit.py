"""``connectors audit``: who did what, and whether the log is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.exits import BadInput, Exit
from worker.commands.options import AsJson

if TYPE_CHECKING:
    from registry.audit import AuditRecord, Head
    from registry.bootstrap import Parts

audit = typer.Typer(help="Who did what, and whether the log is whole.", no_args_is_help=True)

Tenant = Annotated[str | None, typer.Option("--tenant", "-t", metavar="T", help="Only this tenant.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, metavar="N", help="The last N records.")]
Noted = Annotated[
    str | None, typer.Option("--head", metavar="NUMBER:HASH", help="A head noted before, which must be in the log.")
]


@audit.command("list")
def list_records(*, tenant: Tenant = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """Show the last records, oldest first."""
    from worker.commands.printing import console, note, print_json
    from worker.commands.session import with_parts

    async def work(parts: Parts) -> list[AuditRecord]:
        from registry.ids import tenant_id

        return await parts.audit.sink.latest(limit, tenant=None if tenant is None else tenant_id(tenant))

    rows = [_told(record) for record in with_parts(work)]
    if as_json:
        print_json(rows)
    elif not rows:
        note("there is no record yet")
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("", "when", "who", "what", "tenant", "connector", "revision", "more"):
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, _cells(row)))
        console().print(table)


@audit.command()
def verify(*, head: Noted = None, as_json: AsJson = False) -> None:
    """Follow the whole chain. Note the head it prints: with --head, a log that was cut or written anew is found out.

    Exit code: 0, or 1 with the first record that does not hold.
    """
    from worker.commands.printing import print_json, say
    from worker.commands.session import with_parts

    noted = _head(head)

    async def work(parts: Parts) -> tuple[Head, str | None]:
        return await _followed(parts, noted)

    found, wrong = with_parts(work)
    if as_json:
        print_json({"records": found.number, "head": str(found), "whole": wrong is None, "problem": wrong})
    else:
        say(wrong or f"{found.number} records, the chain holds; head {found}")
    raise typer.Exit(Exit.PROBLEM if wrong else Exit.OK)


async def _followed(parts: Parts, noted: Head | None) -> tuple[Head, str | None]:
    """How far the chain holds, and what is wrong behind that."""
    from registry.audit import START, Broken, verified

    head, seen = START, noted is None or noted == START
    try:
        while records := await parts.audit.sink.records(head.number):
            for record in records:
                head = verified([record], head)
                if noted is not None and head.number == noted.number and head != noted:
                    return head, f"record {head.number}: it is not the one that was noted"
                seen = seen or head == noted
    except Broken as error:
        return head, str(error)
    return head, None if seen else f"record {head.number + 1}: missing: the log was noted to have {noted}"


def _head(text: str | None) -> Head | None:
    from registry.audit import Head

    if text is None:
        return None
    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) != len(Head(0, "0" * 64).hash):
        raise BadInput(f"--head {text}: expected NUMBER:HASH as `connectors audit verify` prints it")
    return Head(int(number), digest)


def _told(record: AuditRecord) -> dict[str, Any]:
    try:
        return record.as_dict()
    except ValueError:
        return {"number": record.number, "action": "unreadable, see `connectors audit verify`"}


def _cells(row: dict[str, Any]) -> list[str]:
    from registry.health import rfc3339

    before, after = row.get("before"), row.get("after")
    revisions = "" if after is None else f"{before or '-'} → {after}"
    more = ", ".join(f"{name} {value}" for name, value in (row.get("detail") or {}).items())
    told = [str(row.get(name) or "") for name in ("actor", "action", "tenant", "connector")]
    return [str(row["number"]), rfc3339(row.get("at_ms")) or "", *told, revisions, more]
