"""What stands between the network and every route: bounds on body and time, and the headers that browsers obey.

https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
"""

from __future__ import annotations

import asyncio
import re

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.clean import clean
from registry.web.problems import Problem, document

log = structlog.get_logger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""On every answer."""

_YEAR = "max-age=31536000"
_LENGTH = re.compile(r"\d{1,18}")


class Shield:
    """ASGI middleware.

    Args:
        most: bytes a body may have.
        seconds: until when an answer must have begun; once it has, it may take as long as it takes.
    """

    def __init__(self, app: ASGIApp, *, most: int, seconds: float) -> None:
        self._app, self._most, self._seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._most)
        try:
            async with asyncio.timeout(self._seconds) as exchange.deadline:
                exchange.admit()
                asked = {**scope, "method": "GET"} if exchange.bare else scope
                await self._app(asked, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.begun:
                raise
            exchange.over = True
            await document(self._refusal(error, exchange, scope))(scope, receive, exchange.send)

    def _refusal(self, error: Exception, exchange: _Exchange, scope: Scope) -> Problem:
        if isinstance(error, Problem):
            return error
        if isinstance(error, TimeoutError) and exchange.deadline.expired():
            return exchange.late(self._seconds)
        log.error("request_failed", method=scope["method"], path=clean(scope["path"]), exc_info=error)
        return Problem(500, "internal", "something of ours failed: its log tells what")


def refusing(problem: Problem) -> ASGIApp:
    """An application that answers everybody with `problem`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = document(problem)
        answer.headers.update(HEADERS)
        await answer(scope, receive, send)

    return app


class _Exchange:
    """One request and its answer. `bare`: it asks for the answer's head alone, which is made as for a GET.

    `over`: the application has ended without an answer, and its deadline with it.
    """

    deadline: asyncio.Timeout

    def __init__(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        headers = Headers(scope=scope)
        self._receive, self._send, self._most, self._secure = receive, send, most, scope["scheme"] == "https"
        self.begun, self.over, self.bare, self._received = False, False, scope["method"] == "HEAD", 0
        self._refusal: Problem | None = None
        self._instead = b"" if self.bare else None
        self._length = headers.get("content-length", "0")
        self._whole = self._length == "0" and "transfer-encoding" not in headers

    def admit(self) -> None:
        """Raise `Problem` for a body that is announced to be too large."""
        if not _LENGTH.fullmatch(self._length) or int(self._length) > self._most:
            raise self._too_large()

    async def receive(self) -> Message:
        """Some of the body, as long as it is not too large."""
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._received > self._most:
            self._refusal = self._too_large()
            raise self._refusal
        return message

    async def send(self, message: Message) -> None:
        """Some of the answer, with the headers."""
        if message["type"] == "http.response.start":
            if self._refusal is not None:  # who read the body took it for one that is spoilt
                answer = document(self._refusal)
                message = {**message, "status": answer.status_code, "headers": answer.raw_headers}
                self._instead = bytes(answer.body)
            self.begun = True
            if not self.over:
                self.deadline.reschedule(None)
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
            if self._secure:
                headers.setdefault("Strict-Transport-Security", _YEAR)
        elif self._instead is not None:
            return
        await self._send(message)
        if self._instead is not None:
            await self._send({"type": "http.response.body", "body": self._instead})

    def late(self, seconds: float) -> Problem:
        """Whose fault it is that there was no answer in time."""
        if self._whole:
            return Problem(503, "timeout", f"there was no answer within {seconds:g} s: try again later")
        told = f"the request was not here within {seconds:g} s: send it faster"
        return Problem(408, "timeout", told, headers={"Connection": "close"})

    def _too_large(self) -> Problem:
        told = f"a request may have {self._most} bytes at most"
        return Problem(413, "too_large", told, headers={"Connection": "close"})
