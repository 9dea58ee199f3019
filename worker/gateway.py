"""The Pushgateway's side of publishing: a deployment's groups, each replaced or removed as a whole.

https://github.com/prometheus/pushgateway#api

The Pushgateway knows no fences, so the sender keeps them: a body is sent in pieces, and none once the lease may have
ended. Who was stopped in the middle of a group spoils its body instead, so that the Pushgateway refuses it, and never
puts an older group over its successor's. A connection that breaks off is not enough: what ends with a line is taken as
whole, so no piece ends with one.

Blocking, for a thread: only a socket that is written to at once lets nothing wait behind the look at the clock.
"""

from __future__ import annotations

import ssl
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import MappingProxyType
from urllib.parse import SplitResult, quote, unquote, urlsplit

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from registry.clean import clean
from registry.clock import steady
from registry.settings import Settings

PIECE = 65_536
"""Bytes of a body between two looks at the lease."""

SPOILT = b"!"
"""What fits nowhere in a body."""

ANSWER_LIMIT = 4_096
"""Bytes of an answer that are read."""


class PushFailed(Exception):
    """A group was not taken. `refused`: for what it holds (400), so that other groups may be taken still."""

    def __init__(self, told: str, *, refused: bool = False) -> None:
        super().__init__(told)
        self.refused = refused


class Gateway:
    """The Pushgateway of `settings`, with the password and the certificates as they are now.

    Raises:
        PushFailed: the address, the password or the certificates cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        url = settings.pushgateway_url or ""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path.rstrip("/")
            self._headers = _authorization(parts, settings)
            secure = parts.scheme == "https"
            self._tls = ssl.create_default_context(cafile=settings.pushgateway_ca_file) if secure else None
        except (OSError, ValueError) as error:
            raise PushFailed(f"address, password or certificates are of no use: {type(error).__name__}") from None
        self._timeout, self._job = settings.pushgateway_timeout, settings.metrics_job

    def put(self, group: str, body: bytes, until: float) -> None:
        """Replace the group of one shard, until `until` (`steady` seconds).

        Raises:
            PushFailed: it was not taken.
        """
        body = body or b"\n"  # of nothing at all the end could not be held back
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Content-Length": str(len(body))}
        pieces = _pieces(body, min(until, steady() + self._timeout))
        with closing(self._connection()) as connection:
            self._ask(connection, "PUT", self._group(group, self._job), pieces, headers)

    def delete(self, groups: Iterable[str], until: float, *, job: str | None = None) -> None:
        """Remove groups of this deployment, or of another `job`, that may not even be there. Raises `PushFailed`."""
        with closing(self._connection()) as connection:
            for group in groups:
                if steady() >= until:
                    raise PushFailed("the publisher's lease has ended")
                self._ask(connection, "DELETE", self._group(group, job or self._job))

    def ready(self) -> None:
        """Does it answer, and take our credential? Raises `PushFailed`."""
        with closing(self._connection()) as connection:
            self._ask(connection, "GET", f"{self._path}/-/ready")

    def _group(self, group: str, job: str) -> str:
        return f"{self._path}/metrics{_label('job', job)}{_label('shard', group)}"

    def _connection(self) -> HTTPConnection:
        if self._tls:
            return HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
        return HTTPConnection(self._host, self._port, timeout=self._timeout)

    def _ask(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        body: Iterator[bytes] | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """One request. Every failure is a `PushFailed`, which tells no address and no credential."""
        try:
            with suppress(BrokenPipeError):  # an answer that came before the end of the body says more
                connection.request(method, path, body, {**self._headers, **headers})
            with connection.getresponse() as answer:
                told = answer.read(ANSWER_LIMIT)
        except (OSError, HTTPException) as error:
            raise PushFailed(_kind(error)) from None
        if answer.status >= 300:
            said = clean(told.decode(errors="replace"))
            raise PushFailed(f"HTTP {answer.status}: {said}", refused=answer.status == 400)


def _pieces(body: bytes, until: float) -> Iterator[bytes]:
    """`body` piece by piece. Between a look at the clock and the sending of its piece lie microseconds only."""
    start = 0
    while start < len(body):
        end = start + PIECE
        if body[end - 1 : end] == b"\n" and end < len(body):
            end -= 1
        if steady() >= until:
            yield SPOILT
            raise TimeoutError("not done in time")
        yield body[start:end]
        start = end


def _authorization(url: SplitResult, settings: Settings) -> dict[str, str]:
    """The header that tells user and password, if there are any: those of the URL come first."""
    user = unquote(url.username) if url.username else settings.pushgateway_user
    if not user:
        return {}
    password = unquote(url.password or "")
    if settings.pushgateway_password_file and not password:
        password = settings.pushgateway_password_file.read_text().strip()
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def _label(name: str, value: str) -> str:
    """A part of a group's address: https://github.com/prometheus/pushgateway#url"""
    if "/" in value:
        return f"/{name}@base64/{urlsafe_b64encode(value.encode()).decode()}"
    return f"/{name}/{quote(value, safe='')}"


def _kind(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or getattr(error, "verify_message", None) or ""
    return f"{type(error).__name__}{f': {reason}' if reason else ''}"
