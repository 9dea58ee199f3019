"""``connectors list``: which connectors there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from worker.commands.exits import Exit
from worker.commands.options import AsJson

if TYPE_CHECKING:
    from registry.catalog import Catalog


def list_connectors(*, as_json: AsJson = False) -> None:
    """List the connectors with version, auth methods and maturity; one that cannot load is listed with its reason.

    Exit code: 0, or 1 when a connector cannot be loaded.
    """
    from worker.commands.printing import console, print_json

    rows = _rows(catalog())
    if as_json:
        print_json(rows)
    else:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("connector", "version", "auth methods", "maturity", "about"):
            table.add_column(title, overflow="fold")
        for row in rows:
            about = f"cannot load: {row['error']}" if row["error"] else f"{row['title']}, {row['documentation']}"
            table.add_row(row["name"], row["version"] or "?", row["auth_methods"], row["maturity"] or "?", about)
        console().print(table)
    raise typer.Exit(Exit.PROBLEM if any(row["error"] for row in rows) else Exit.OK)


def catalog() -> Catalog:
    """The connectors that are installed here."""
    from registry.catalog import Catalog
    from registry.connectors import CONNECTORS

    return Catalog(CONNECTORS)


def _rows(catalog: Catalog) -> list[dict[str, str]]:
    from registry.errors import ConnectorError

    rows = []
    for name in catalog.list():
        row = dict.fromkeys(("version", "auth_methods", "maturity", "title", "documentation", "error"), "")
        try:
            manifest = catalog.load(name).manifest
        except ConnectorError as error:
            row["error"] = str(error)
        else:
            row |= {key: str(getattr(manifest, key)) for key in ("version", "maturity", "title", "documentation")}
            row["auth_methods"] = ", ".join(manifest.auth_methods)
        rows.append({"name": name, **row})
    return rows
