"""The ``connectors`` command. Commands live in `worker.commands` and import what they need when they run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from registry.errors import RegistryError
from worker.commands.audit import audit
from worker.commands.check import check
from worker.commands.config import config
from worker.commands.connectors import list_connectors
from worker.commands.doctor import doctor
from worker.commands.down import down
from worker.commands.exits import BadInput, Failed, exit_of
from worker.commands.health import health
from worker.commands.history import history
from worker.commands.labels import label, named
from worker.commands.maintenance import maintenance
from worker.commands.metrics import metrics
from worker.commands.outdated import outdated
from worker.commands.printing import note
from worker.commands.serve import serve
from worker.commands.status import status
from worker.commands.tenants import tenants
from worker.commands.tokens import tokens
from worker.commands.up import up
from worker.commands.webhooks import webhooks

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_CODES = "Exit codes: 0 healthy or done, 1 unhealthy or a problem, 2 usage or bad input, 3 unknown."

app = typer.Typer(
    name="connectors",
    help="For every tenant and every connector: does it work right now, whose fault is it if not, what to do.\n\n"
    + EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it would print local variables, and those may hold secrets
)
for command in (up, down, status, health, history, check, doctor, metrics, serve):
    app.command()(command)
app.command("list")(list_connectors)
app.command()(outdated)
tenants.command()(label)
tenants.command()(named)
app.add_typer(tenants, name="tenants")
app.add_typer(config, name="config")
app.add_typer(audit, name="audit")
app.add_typer(webhooks, name="webhooks")
app.add_typer(maintenance, name="maintenance")
app.add_typer(tokens, name="tokens")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends by `SystemExit` with one of the documented codes."""
    try:
        app(list(arguments) if arguments is not None else None)
    except (RegistryError, BadInput, Failed) as error:
        note(str(error))
        sys.exit(exit_of(error))


if __name__ == "__main__":
    main()
