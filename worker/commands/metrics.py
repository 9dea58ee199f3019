"""``connectors metrics``: the gauges for direct scraping, with the same content as the push."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from worker.runtime import Runtime

Host = Annotated[str | None, typer.Option("--host", help="The address to listen on; default: METRICS_HOST.")]
Port = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, help="0 takes a free one; default: METRICS_PORT.")
]

SCRAPE_TIMEOUT = 10.0
"""Seconds one scrape may take."""


def metrics(*, host: Host = None, port: Port = None) -> None:
    """Serve /metrics until it is ended. A scrape fails with 503 when Redis is away: old gauges are never served."""
    import signal
    from threading import Event
    from wsgiref.simple_server import make_server

    from registry.logs import configure_logs
    from registry.settings import load_settings
    from worker.commands.exits import BadInput
    from worker.commands.printing import say
    from worker.commands.serving import Application, QuietHandler, ThreadingServer
    from worker.runtime import Runtime

    settings = load_settings()
    host = host or settings.metrics_host
    port = settings.metrics_port if port is None else port
    configure_logs(settings)
    runtime = Runtime(settings)
    try:
        try:
            server = make_server(host, port, Application(Scrape(runtime)), ThreadingServer, QuietHandler)
        except OSError as error:
            raise BadInput(f"/metrics cannot be served at {host}:{port}: {error.strerror}: choose another") from None
        ended = Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        with server:
            say(f"http://{host}:{server.server_port}/metrics")
            server.serve_in_background()
            ended.wait()
            server.shutdown()
    finally:
        runtime.close()


class Scrape:
    """A collector that takes its snapshot anew for every scrape."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterable[Metric]:
        """The families of all shards, and the system's own. Raises what redis-py raises, or `TimeoutError`."""
        from worker.publish import exposed

        return self._runtime.run(exposed(self._runtime.parts), SCRAPE_TIMEOUT)
