"""``connectors doctor``: what is wrong with the system itself, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.exits import Exit
from worker.commands.options import AsJson

if TYPE_CHECKING:
    from worker.commands.diagnosis import Finding


Live = Annotated[
    str | None,
    typer.Option("--live", metavar="ROLE", help="Read only the heartbeats of beat, dispatch, checks or publish here."),
]


def doctor(*, live: Live = None, as_json: AsJson = False) -> None:
    """Look at Redis, broker, store, Pushgateway, workers, beat, schedule, connectors and secrets.

    Exit code: 0 everything is well, 1 something is wrong; each such line says what to do. With `--live`: 0 the role's
    processes here work, 1 one hangs or is missing; nothing else is asked, so that a probe may ask often.
    """
    if live is not None:
        raise typer.Exit(_live(live))

    import asyncio

    from worker.commands.diagnosis import diagnose
    from worker.commands.printing import console, print_json

    findings = asyncio.run(diagnose())
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("", "what", "found", "what to do"):
            table.add_column(title, overflow="fold")
        for finding in findings:
            mark = Text("ok" if finding.ok else "WRONG", style="green" if finding.ok else "bold red")
            table.add_row(mark, finding.what, finding.found, finding.do)
        console().print(table)
    raise typer.Exit(_exit(findings))


def _exit(findings: list[Finding]) -> Exit:
    return Exit.OK if all(finding.ok for finding in findings) else Exit.PROBLEM


def _live(role: str) -> Exit:
    from registry.settings import load_settings
    from worker.commands.exits import BadInput
    from worker.commands.printing import note
    from worker.heartbeat import ROLES, trouble

    if role not in ROLES:
        raise BadInput(f"--live: there is no role {role}; the roles are {', '.join(ROLES)}")
    settings = load_settings()
    told = trouble(settings.heartbeat_dir, role, settings.heartbeat_stale)
    if told:
        note(told)
    return Exit.PROBLEM if told else Exit.OK
