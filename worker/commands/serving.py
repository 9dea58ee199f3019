"""A small HTTP server for one page of metrics, on the standard library and prometheus_client's WSGI application."""

from __future__ import annotations

from collections.abc import Iterable
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)


class Application:
    """prometheus_client's application over one collector; a collector that fails is a 503 with the reason."""

    def __init__(self, collector: Collector) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(collector)
        self._serve = make_wsgi_app(registry)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI."""
        try:
            page: Iterable[bytes] = self._serve(environ, start_response)
        except (RedisError, TimeoutError) as error:
            log.warning("scrape_failed", error=type(error).__name__)
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"Redis did not answer ({type(error).__name__})\n".encode()]
        return page


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """One thread a request, so that a slow scraper holds up nobody."""

    daemon_threads = True

    def serve_in_background(self) -> None:
        """Answer requests until `shutdown`."""
        Thread(target=self.serve_forever, name="metrics", daemon=True).start()


class QuietHandler(WSGIRequestHandler):
    """Logs no scrapes: there are many, and they are all alike."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        """Nothing."""
