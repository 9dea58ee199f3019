"""``connectors webhooks``: who is told, what waits for them, and what they never took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.exits import BadInput, Exit
from worker.commands.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.bootstrap import Parts
    from worker.events.deliver import Attempt
    from worker.events.standing import Letter, Standing
    from worker.events.webhooks import Webhook

webhooks = typer.Typer(help="Who is told of transitions and incidents.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Its name in WEBHOOKS_FILE.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, metavar="N", help="The oldest N.")]


@webhooks.command("list")
def list_webhooks(*, as_json: AsJson = False) -> None:
    """Show each webhook: what was delivered, failed, was given up, since when something waits, when it is tried next.

    Exit code: 0, or 1 when one of them does not take what it is sent.
    """
    from worker.commands.printing import note, print_json
    from worker.commands.session import with_parts

    known = _known()

    async def work(parts: Parts) -> list[Standing]:
        from worker.events.standing import standings

        return await standings(parts, known)

    found = with_parts(work)
    if as_json:
        print_json([{**row.as_dict(), "form": known[row.webhook].form} for row in found])
    elif not found:
        note("no webhook is set: see WEBHOOKS_FILE in docs/settings.md")
    else:
        _show(found, known)
    raise typer.Exit(Exit.PROBLEM if any(row.attempts for row in found) else Exit.OK)


@webhooks.command("test")
def try_one(name: Name) -> None:
    """Send one test message and say what came of it. Exit code: 0 taken, 1 not."""
    from worker.commands.printing import say
    from worker.commands.session import with_parts

    known = _known(name)

    async def work(parts: Parts) -> Attempt:
        from uuid import uuid4

        from worker.events.deliver import Deliverer
        from worker.events.message import Message, MessageType

        text = "A test: messages of the connector registry arrive here."
        message = Message(f"test-{uuid4().hex}", MessageType.TEST, parts.clock.now_ms(), text, {})
        deliverer = Deliverer(parts, known, source=parts.settings.webhooks_source, owner="cli")
        try:
            return await deliverer.send_now(name, message)
        finally:
            await deliverer.aclose()

    attempt = with_parts(work)
    say(
        f"{name}: taken" if attempt.delivered else f"{name}: not taken ({attempt.told}); check its url and what it says"
    )
    raise typer.Exit(Exit.OK if attempt.delivered else Exit.PROBLEM)


@webhooks.command()
def dead(name: Name, *, limit: Limit = 50, as_json: AsJson = False) -> None:
    """Show the messages that a webhook never took."""
    from worker.commands.printing import console, note, print_json
    from worker.commands.session import with_parts

    _known(name)

    async def work(parts: Parts) -> list[Letter]:
        from worker.events.standing import letters

        return await letters(parts, name, limit)

    found = with_parts(work)
    if as_json:
        from msgspec import to_builtins

        print_json([{"told": letter.told, **to_builtins(letter.message)} for letter in found])
    elif not found:
        note(f"{name}: every message was taken")
    else:
        from rich.table import Table
        from rich.text import Text

        from registry.health import rfc3339

        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("when", "last attempt", "message"):
            table.add_column(title, overflow="fold")
        for letter in found:
            table.add_row(rfc3339(letter.message.at_ms), Text(letter.told), Text(letter.message.text))
        console().print(table)


@webhooks.command()
def replay(name: Name) -> None:
    """Send the messages that a webhook never took once more, to it alone."""
    from worker.commands.printing import say
    from worker.commands.session import with_parts

    _known(name)

    async def work(parts: Parts) -> int:
        from worker.events.standing import replay as again

        return await again(parts, name)

    say(f"{name}: {with_parts(work)} messages are on their way again")


def _known(name: str | None = None) -> Mapping[str, Webhook]:
    from registry.settings import load_settings
    from worker.commands.connectors import catalog
    from worker.events.webhooks import load_webhooks

    known = load_webhooks(load_settings().webhooks_file, catalog().list())
    if name is not None and name not in known:
        raise BadInput(f"webhook {name}: not in WEBHOOKS_FILE; known: {', '.join(sorted(known)) or 'none'}")
    return known


def _show(found: list[Standing], known: Mapping[str, Webhook]) -> None:
    from rich.table import Table

    from registry.health import rfc3339
    from worker.commands.printing import console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("webhook", "form", "delivered", "failed", "given up", "waiting since", "next attempt"):
        table.add_column(title)
    for row in found:
        counts = map(str, (row.delivered, row.failed, row.dead))
        times = (rfc3339(row.oldest_ms) or "", rfc3339(row.next_ms) or "")
        table.add_row(row.webhook, known[row.webhook].form, *counts, *times)
    console().print(table)
