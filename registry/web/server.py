"""uvicorn, with what it leaves out: bounds on a request's head, on a client that takes no answer, and on the crowd.

https://www.uvicorn.org/settings/
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from registry.web.problems import MEDIA_TYPE, RETRY, Problem, document
from registry.web.shield import refusing

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn._types import ASGI3Application

    from registry.settings import Settings

HEAD_SECONDS = 10.0
"""Until when a request's head must be there, from its first byte (or the connection) on."""

HEAD_BYTES = 32_768
"""Bytes a head may have."""

HEAD_FIELDS = 100
"""Header fields a head may have."""

TAKE_SECONDS = 30.0
"""Until when a client must have taken what was written to it."""

ENDING = 5
"""Seconds that requests have to end when the server does; streams are cut."""

PROBES = (b"/livez", b"/readyz")
"""What is answered however many connections there are: a crowd is no reason to start the process anew."""

SPELLED = 8
"""How many bytes a body of chunks may take to spell one of its own."""

_CLOSE = {"Connection": "close"}

CROWDED = Problem(503, "crowded", "there are too many connections: try again", headers=_CLOSE | RETRY)
TOO_LARGE = Problem(
    431, "head_too_large", f"a head may have {HEAD_BYTES} bytes and {HEAD_FIELDS} fields", headers=_CLOSE
)


class BoundedHeads(HttpToolsProtocol):
    """Ends connections whose requests do not get past their heads, go on for ever, or whose answers are not taken."""

    crowd: ClassVar[int]
    """Connections of the process at a time."""

    whole: ClassVar[int]
    """Bytes of one request, whatever they spell."""

    _in_head = False
    _received = 0
    _head = 0
    _fields = 0
    _patience: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """A client has connected."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # what the client does not take at once is waited for
        self._wait_for_head()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._received, self._head, self._fields = True, 0, 0, 0
        self._wait_for_head()

    def on_url(self, url: bytes) -> None:
        """Some of the target."""
        self._head += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; one that follows the body is nobody's to read."""
        if self._in_head:
            self._head += len(name) + len(value) + len(b": \r\n")
            self._fields += 1
            super().on_header(name, value)

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        if self._patience is None and self._answered():
            self._wait_for_head()  # it may be no request: blank lines, or the rest of one that is answered
        self._received += len(data)
        super().data_received(data)
        if self._in_head and self._received > HEAD_BYTES:
            self._say(TOO_LARGE)
        elif self._received > self.whole:
            self._end()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._wait_no_more()
        self.app = self._answering()
        super().on_headers_complete()

    def _answered(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn declares
        return cycle is None or cycle.response_complete

    def _answering(self) -> ASGI3Application:
        """Who answers the request whose head is there."""
        answering = cast("ASGI3Application", self.config.loaded_app)
        if self._head > HEAD_BYTES or self._fields > HEAD_FIELDS:
            answering = cast("ASGI3Application", refusing(TOO_LARGE))
        elif len(self.connections) > self.crowd and self.url.partition(b"?")[0] not in PROBES:
            answering = cast("ASGI3Application", refusing(CROWDED))
        return answering

    def pause_writing(self) -> None:
        """The client has not taken all that was written."""
        super().pause_writing()
        self._taking = self._taking or self.loop.call_later(TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It has."""
        super().resume_writing()
        self._take_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._wait_no_more()
        self._take_no_more()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._say(Problem(400, "bad_request", msg))

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing is upgraded, and nobody is to fill the log by asking for it."""

    def _wait_for_head(self) -> None:
        self._wait_no_more()
        self._patience = self.loop.call_later(HEAD_SECONDS, self._end)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _take_no_more(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _say(self, problem: Problem) -> None:
        """Answer what never became a request, and end."""
        if not self.transport.is_closing():
            body, phrase = bytes(document(problem).body), HTTPStatus(problem.status).phrase
            head = f"HTTP/1.1 {problem.status} {phrase}\r\nContent-Type: {MEDIA_TYPE}\r\nConnection: close\r\n"
            self.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self._end()

    def _end(self) -> None:
        self._wait_no_more()
        self.transport.close()


def server(app: FastAPI, settings: Settings) -> uvicorn.Server:
    """A server of `app`; give `serve` the sockets to listen at."""
    bounds = {"crowd": settings.api_connections, "whole": HEAD_BYTES + SPELLED * settings.api_body}
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=type("Bounded", (BoundedHeads,), bounds),
            ws="none",
            log_config=None,  # the process's own
            access_log=False,  # there are many, and the audit log has the ones that matter
            server_header=False,
            timeout_graceful_shutdown=ENDING,
            forwarded_allow_ips=settings.api_proxies,
            ssl_certfile=settings.api_tls_certificate,
            ssl_keyfile=settings.api_tls_key,
        )
    )
