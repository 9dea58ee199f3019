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
        for title in ("connector", "version", "package", "auth methods", "maturity", "about"):
            table.add_column(title, overflow="fold")
        for row in rows:
            about = f"cannot load: {row['error']}" if row["error"] else f"{row['title']}, {row['documentation']}"
            if row["advice"]:
                about = f"{about}; until {row['until']}: {row['advice']}"
            names = ("version", "distribution", "auth_methods", "maturity")
            table.add_row(row["name"], *(row[name] or "?" for name in names), about)
        console().print(table)
    raise typer.Exit(Exit.PROBLEM if any(row["error"] for row in rows) else Exit.OK)


def catalog() -> Catalog:
    """The connectors that are installed here."""
    from registry.catalog import Catalog
    from registry.connectors import CONNECTORS
    from registry.discovery import discover
    from registry.settings import load_settings

    return Catalog(CONNECTORS, discover(CONNECTORS, load_settings().connector_pins))


def _rows(catalog: Catalog) -> list[dict[str, str]]:
    from registry.errors import ConnectorError
    from registry.versions import DISTRIBUTION

    rows = []
    for name in catalog.list():
        offer = catalog.found.offers.get(name)
        row = _row(name, offer.distribution if offer else DISTRIBUTION)
        try:
            manifest = catalog.load(name).manifest
        except ConnectorError as error:
            row["error"] = str(error)
        else:
            row |= {key: str(getattr(manifest, key)) for key in ("version", "maturity", "title", "documentation")}
            row["auth_methods"] = ", ".join(manifest.auth_methods)
            if manifest.deprecation:
                row |= {"until": str(manifest.deprecation.date), "advice": manifest.deprecation.advice}
        rows.append(row)
    return rows + [_row(refused.name, refused.distribution, refused.reason) for refused in catalog.found.refused]


def _row(name: str, distribution: str, error: str = "") -> dict[str, str]:
    empty = dict.fromkeys(("version", "auth_methods", "maturity", "title", "documentation", "until", "advice"), "")
    return {"name": name, "distribution": distribution, **empty, "error": error}
