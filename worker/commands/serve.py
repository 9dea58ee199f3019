"""``connectors serve``: the HTTP API and the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import socket

    from registry.settings import Settings

Host = Annotated[str | None, typer.Option("--host", help="The address to listen on; default: API_HOST.")]
Port = Annotated[int | None, typer.Option("--port", min=0, max=65535, help="0 takes a free one; default: API_PORT.")]


def serve(*, host: Host = None, port: Port = None) -> None:
    """Serve the HTTP API and the dashboard until it is ended. `connectors tokens create` makes a token for them."""
    import asyncio

    from registry.extras import lacking
    from registry.logs import configure_logs
    from registry.settings import load_settings
    from worker.commands.exits import BadInput

    if missing := lacking("uvicorn", "web"):
        raise BadInput(f"the HTTP API needs more packages: {missing}")
    settings = load_settings()
    changed = {"api_host": host or settings.api_host, "api_port": settings.api_port if port is None else port}
    settings = settings.model_copy(update=changed)
    configure_logs(settings)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    import asyncio

    from prometheus_client import generate_latest

    from registry.bootstrap import assemble
    from registry.web.app import create_app
    from registry.web.server import server
    from worker.commands.printing import say
    from worker.publish import exposition

    listening = _listening(settings)
    parts = assemble(settings)

    async def text() -> bytes:
        return await asyncio.to_thread(generate_latest, await exposition(parts))

    scheme = "https" if settings.api_tls_certificate else "http"
    address, found = listening.getsockname()[:2]
    say(f"{scheme}://{f'[{address}]' if ':' in address else address}:{found}/")
    await server(create_app(parts, exposition=text), settings).serve(sockets=[listening])


def _listening(settings: Settings) -> socket.socket:
    """A socket that listens. Raises `BadInput` when the address cannot be had."""
    import socket

    from worker.commands.exits import BadInput

    host, port = settings.api_host, settings.api_port
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2_048)
    except OSError as error:
        raise BadInput(f"the API cannot be served at {host}:{port}: {error.strerror}: choose another") from None
