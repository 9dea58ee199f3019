"""``connectors maintenance``: announce when something may fail, so that nobody is alerted."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.exits import BadInput
from worker.commands.options import AsJson

if TYPE_CHECKING:
    from registry.bootstrap import Parts
    from registry.maintenance import Window

maintenance = typer.Typer(help="Announced times in which nobody is alerted.", no_args_is_help=True)

OfConnector = Annotated[str | None, typer.Option("--connector", "-c", metavar="C", help="Only this connector.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", "-t", metavar="T", help="Only this tenant.")]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="RFC 3339; without it, now.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="RFC 3339.")]
For = Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Such as 30m, 4h or 2d; or --until.")]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; at most 200 characters.")]

_DURATION = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@maintenance.command()
def add(
    *,
    connector: OfConnector = None,
    tenant: OfTenant = None,
    starts: From = None,
    until: Until = None,
    lasts: For = None,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Announce a window for a connector, a tenant, or one connector of one tenant."""
    from worker.commands.printing import print_json, say
    from worker.commands.session import actor, with_parts

    if (until is None) == (lasts is None):
        raise BadInput("give either --for DURATION or --until TIME")
    seconds = _seconds(lasts) if lasts is not None else 0

    async def work(parts: Parts) -> Window:
        await _refuse_unknown(parts, connector, tenant)
        now = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
        begin = _milliseconds("--from", starts) if starts is not None else now
        end = _milliseconds("--until", until) if until is not None else begin + seconds * 1000
        return await parts.maintenance.add(
            actor=actor(), starts_ms=begin, ends_ms=end, connector=connector, tenant=tenant, note=note
        )

    window = with_parts(work)
    if as_json:
        print_json(window.as_dict())
    else:
        say(f"{window.id}: {_of(window)} until {window.as_dict()['ends']}")


@maintenance.command("list")
def list_windows(*, as_json: AsJson = False) -> None:
    """Show the windows that are not over."""
    from worker.commands.printing import console, note, print_json
    from worker.commands.session import with_parts

    async def work(parts: Parts) -> tuple[Window, ...]:
        return await parts.maintenance.windows()

    found = with_parts(work)
    if as_json:
        print_json([window.as_dict() for window in found])
    elif not found:
        note("no maintenance is announced")
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("id", "of", "from", "until", "who", "note"):
            table.add_column(title, overflow="fold")
        for window in found:
            row = window.as_dict()
            table.add_row(window.id, _of(window), str(row["starts"]), str(row["ends"]), window.actor, Text(window.note))
        console().print(table)


@maintenance.command()
def end(
    window: Annotated[str, typer.Argument(metavar="ID", help="As `connectors maintenance list` shows it.")],
) -> None:
    """End a window now, or take back one that has not begun."""
    from worker.commands.printing import say
    from worker.commands.session import actor, with_parts

    async def work(parts: Parts) -> Window:
        return await parts.maintenance.end(window, actor=actor())

    say(f"{window}: {_of(with_parts(work))} is in maintenance no more")


async def _refuse_unknown(parts: Parts, connector: str | None, tenant: str | None) -> None:
    """A window for a misspelt name would be accepted, and everybody alerted all the same."""
    from registry.ids import tenant_id

    if connector is not None and not parts.catalog.has(connector):
        raise BadInput(f"no connector {connector!r} is registered; there are: {', '.join(parts.catalog.list())}")
    if tenant is None:
        return
    configured = await parts.store.list_connectors(tenant_id(tenant))
    if not configured:
        raise BadInput(f"tenant {tenant} has no configuration: `connectors tenants list` shows those that have")
    if connector is not None and connector not in configured:
        raise BadInput(f"tenant {tenant} has no connector {connector}; it has: {', '.join(configured)}")


def _of(window: Window) -> str:
    return f"{window.connector or 'every connector'} of {window.tenant or 'every tenant'}"


def _seconds(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise BadInput(f"--for {text}: expected a number and s, m, h or d, such as 30m or 2d")
    return int(found[1]) * _SECONDS[found[2]]


def _milliseconds(option: str, text: str) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{option} {text}: expected a time such as 2026-11-23T22:00:00Z") from None
    if moment.tzinfo is None:
        raise BadInput(f"{option} {text}: say which time zone, such as 2026-11-23T22:00:00Z")
    return int(moment.timestamp() * 1000)
