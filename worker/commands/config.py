"""``connectors config``: one configuration of one tenant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.options import AsJson, Connector, Tenant, Yes

if TYPE_CHECKING:
    from registry.bootstrap import Parts
    from registry.stores import StoredConfig

config = typer.Typer(help="One configuration of one tenant.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The configuration (YAML or JSON); - reads stdin.")]
Test = Annotated[bool, typer.Option("--test", help="Check it first, now; what does not work is not written.")]
Expected = Annotated[
    int | None, typer.Option("--expected", min=0, metavar="N", help="Only over revision N; 0: only if there is none.")
]


@config.command("set")
def set_config(
    connector: Connector, file: File, *, tenant: Tenant, expected: Expected = None, test: Test = False
) -> None:
    """Write a configuration; the pair is checked at once. A clear secret in it is sealed, never stored as it is.

    Exit code: 0 written; with --test 1 unhealthy or 3 unknown, and nothing written; 2 bad input.
    """
    from worker.commands.check import show_check
    from worker.commands.exits import exit_of_health
    from worker.commands.plan import validated
    from worker.commands.printing import note, say
    from worker.commands.session import actor, with_parts
    from worker.commands.tenants_file import Entry, TenantsFile, read_document

    document = read_document(file)

    async def work(parts: Parts) -> StoredConfig:
        from registry.facade import ConnectorRegistry
        from registry.ids import Pair, connector_id, tenant_id

        pair = Pair(connector_id(connector), tenant_id(tenant))
        await validated(parts, TenantsFile(str(file), [Entry(pair, document)]))
        if test:
            status = await ConnectorRegistry(parts).dry_run(connector, document, tenant_id=tenant)
            show_check(status)
            if not status.healthy:
                note("nothing was written")
                raise typer.Exit(exit_of_health([status]))
        return await parts.configurations.set(pair, document, actor=actor(), expected=expected)

    stored = with_parts(work)
    say(f"stored {connector} of tenant {tenant} as revision {stored.revision}")


@config.command("get")
def get_config(connector: Connector, *, tenant: Tenant, as_json: AsJson = False) -> None:
    """Print a configuration, in the form that `set` reads; secrets are references."""
    from worker.commands.printing import print_json, say_yaml
    from worker.commands.session import with_parts

    async def work(parts: Parts) -> StoredConfig:
        from registry.ids import Pair, connector_id, tenant_id

        return await parts.store.get_config(Pair(connector_id(connector), tenant_id(tenant)))

    document = with_parts(work).config.model_dump(mode="json", exclude_none=True)
    if as_json:
        print_json(document)
    else:
        say_yaml(document)


@config.command("delete")
def delete_config(connector: Connector, *, tenant: Tenant, yes: Yes = False, expected: Expected = None) -> None:
    """Delete a configuration. Asks first."""
    from worker.commands.printing import say
    from worker.commands.session import actor, with_parts
    from worker.commands.tenants import confirm

    async def work(parts: Parts) -> None:
        from registry.ids import Pair, connector_id, tenant_id

        pair = Pair(connector_id(connector), tenant_id(tenant))
        stored = await parts.store.get_config(pair)
        if not yes:
            confirm(f"Delete {connector} of tenant {tenant}?")
        before = stored.revision if expected is None else expected
        await parts.configurations.delete(pair, actor=actor(), expected=before)

    with_parts(work)
    say(f"deleted {connector} of tenant {tenant}")


@config.command()
def schema(connector: Connector) -> None:
    """Print the JSON Schema of a connector's configurations, for editors and for programs that write them."""
    from registry.validation import config_schema
    from worker.commands.connectors import catalog
    from worker.commands.printing import print_json

    print_json(config_schema(catalog().load(connector).manifest))
