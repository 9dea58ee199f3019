"""What stands between the network and every route: bounds on body and time, and the headers that browsers obey.

https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
"""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.web.problems import Problem, document

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
        exchange = _Exchange(receive, send, self._most, secure=scope["scheme"] == "https")
        try:
            async with asyncio.timeout(self._seconds) as exchange.deadline:
                exchange.admit(Headers(scope=scope).get("content-length", "0"))
                await self._app(scope, exchange.receive, exchange.send)
        except (Problem, TimeoutError) as error:
            if exchange.begun:
                raise
            refused = error if isinstance(error, Problem) else exchange.late(self._seconds)
            await document(refused)(scope, receive, exchange.send)


class _Exchange:
    """One request and its answer."""

    deadline: asyncio.Timeout

    def __init__(self, receive: Receive, send: Send, most: int, *, secure: bool) -> None:
        self._receive, self._send, self._most, self._secure = receive, send, most, secure
        self.begun, self._received, self._whole = False, 0, False

    def admit(self, length: str) -> None:
        """Raise `Problem` for a body that is announced to be too large."""
        if not _LENGTH.fullmatch(length) or int(length) > self._most:
            raise self._too_large()

    async def receive(self) -> Message:
        """Some of the body, as long as it is not too large."""
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._received > self._most:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """Some of the answer, with the headers."""
        if message["type"] == "http.response.start":
            self.begun = True
            if not self.deadline.expired():
                self.deadline.reschedule(None)
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
            if self._secure:
                headers.setdefault("Strict-Transport-Security", _YEAR)
        await self._send(message)

    def late(self, seconds: float) -> Problem:
        """Whose fault it is that there was no answer in time."""
        if self._whole:
            return Problem(503, "timeout", f"there was no answer within {seconds:g} s: try again later")
        return Problem(408, "timeout", f"the request was not here within {seconds:g} s: send it faster")

    def _too_large(self) -> Problem:
        told = f"a request may have {self._most} bytes at most"
        return Problem(413, "too_large", told, headers={"Connection": "close"})
