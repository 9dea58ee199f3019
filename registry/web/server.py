"""uvicorn, with what it leaves out: a bound on how slowly a request's head may come, and on its size.

https://www.uvicorn.org/settings/
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from fastapi import FastAPI

    from registry.settings import Settings

HEAD_SECONDS = 10.0
"""Until when a request's head must be there, from its first byte (or the connection) on."""

HEAD_BYTES = 32_768
"""Bytes a head may have."""

ENDING = 5
"""Seconds that requests have to end when the server does; streams are cut."""

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class BoundedHeads(HttpToolsProtocol):
    """Ends connections whose requests do not get past their heads."""

    _head = 0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """A client has connected."""
        super().connection_made(transport)
        self._wait_for_head()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head = 0
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Some of a request. What follows its head is the application's to bound."""
        self._head += len(data)
        super().data_received(data)
        if self._patience is not None and self._head > HEAD_BYTES:
            self._end(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._wait_no_more()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._wait_no_more()
        self._patience = self.loop.call_later(HEAD_SECONDS, self._end, b"")

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _end(self, last: bytes) -> None:
        self._wait_no_more()
        if not self.transport.is_closing():
            self.transport.write(last)
            self.transport.close()


def server(app: FastAPI, settings: Settings) -> uvicorn.Server:
    """A server of `app`; give `serve` the sockets to listen at."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=BoundedHeads,
            ws="none",
            log_config=None,  # the process's own
            access_log=False,  # there are many, and the audit log has the ones that matter
            server_header=False,
            limit_concurrency=settings.api_connections,
            timeout_graceful_shutdown=ENDING,
            forwarded_allow_ips=settings.api_proxies,
            ssl_certfile=settings.api_tls_certificate,
            ssl_keyfile=settings.api_tls_key,
        )
    )
