"""List the connectors with their metadata, without building any: ``python examples/list_connectors.py``."""

from __future__ import annotations

import asyncio

import registry


async def main() -> None:
    """Everything here comes from static manifests: no tenant, no network."""
    async with registry.create_registry() as reg:
        for name in reg.list():
            metadata = await reg.get_metadata(name)
            fits = "" if await reg.is_compatible(name) else ", not for this version of the framework"
            print(f"{name} {metadata.version} ({metadata.maturity}{fits}): {metadata.title}")
            print(f"  signs in with {' or '.join(metadata.auth_methods)}; checks {', '.join(metadata.steps)}")
            print(f"  {metadata.documentation}")


if __name__ == "__main__":
    asyncio.run(main())
