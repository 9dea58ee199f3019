"""The other end of the webhooks: a real HTTP server with an address for each kind of receiver an operator has.

What is not signed as the Standard Webhooks specification has it is turned away, and so never arrives.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from registry.ids import Pair
from tests.chaos.messages import Address, Message

KEY = b"what only the two ends of a webhook know"
ADDRESSES = {
    "everybody": Address(),
    "one-tenant": Address(tenants=frozenset({"acme-01"})),
    "one-vendor": Address(connectors=frozenset({"linear"})),
}


class Receiver:
    """Listens on a free port of loopback from now on, until `close`.

    `messages` are those that were taken, oldest first; `waiting` are the senders' ports of those that are held.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.waiting: list[int] = []
        self._held: threading.Event | None = None
        receiver = self

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.receive(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def write(self, directory: Path) -> Path:
        """The file that an operator would write about these addresses."""
        secret = directory / "webhook-key"
        secret.write_text(f"whsec_{base64.b64encode(KEY).decode()}")
        webhooks = {
            name: {
                "url": f"http://127.0.0.1:{self._server.server_address[1]}/{name}",
                "secret_file": str(secret),
                "tenants": sorted(address.tenants),
                "connectors": sorted(address.connectors),
                "timeout": 2,
            }
            for name, address in ADDRESSES.items()
        }
        path = directory / "webhooks.yaml"
        path.write_text(yaml.safe_dump({"webhooks": webhooks}))
        return path

    def last_word(self, address: str, pair: Pair) -> str | None:
        """The reason that an address was told last for a pair; None before it was told of it."""
        news = [each.after for each in self.messages if (each.address, each.pair) == (address, pair)]
        return news[-1][1] if news and news[-1] else None

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Whoever sends gets no answer meanwhile; at the end these connections are cut, and what they sent is lost."""
        self._held = held = threading.Event()
        try:
            yield
        finally:
            self._held = None
            held.set()
            self.waiting.clear()

    def receive(self, request: BaseHTTPRequestHandler) -> None:
        """One attempt of a sender."""
        body = request.rfile.read(int(request.headers["content-length"]))
        if held := self._held:
            self.waiting.append(request.client_address[1])
            held.wait()
            request.close_connection = True
            return
        signed = _signed(request, body)
        if signed:
            self.messages.append(_read(request.path.lstrip("/"), body))
        request.send_response(204 if signed else 401)
        request.end_headers()


def _signed(request: BaseHTTPRequestHandler, body: bytes) -> bool:
    told = ".".join((request.headers["webhook-id"], request.headers["webhook-timestamp"], "")).encode() + body
    expected = f"v1,{base64.b64encode(hmac.new(KEY, told, hashlib.sha256).digest()).decode()}"
    return hmac.compare_digest(request.headers.get("webhook-signature", ""), expected)


def _read(address: str, body: bytes) -> Message:
    event = json.loads(body)
    data = event["data"]
    after = data.get("to")
    return Message(
        address,
        event["id"],
        event["type"].removeprefix("connectors."),
        round(dt.datetime.fromisoformat(event["time"]).timestamp() * 1000),
        data.get("tenant"),
        data.get("connector"),
        (after["status"], after["reason"]) if after else None,
        body.decode(),
    )
