"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Connector = Annotated[str, typer.Argument(metavar="CONNECTOR", help="The connector's name, such as github.")]
Tenant = Annotated[str, typer.Option("--tenant", "-t", metavar="T", help="The tenant's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
