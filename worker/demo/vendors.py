"""The demo vendors: one loopback server that speaks like GitHub, GitLab, Linear, Slack and Vertex AI.

::

    python -m worker.demo.vendors --port 8099
    curl -X POST localhost:8099/control/acme-01/slack -d '{"fault": "revoked"}'
    curl localhost:8099/control    # the faults that are played, and who has asked whom how often
    curl localhost:8099/status/slack

A tenant's state is recognised by its credential; ``*`` stands for every tenant or every connector. What a vendor
answers is in `worker.demo.answers`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import ssl
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from worker.demo.answers import FAULTS, VENDORS, Call, Reply, tenant_of
from worker.demo.status_pages import AUDIENCE, page
from worker.demo.tenants import demo_faults

SLOW_SECONDS = 2.5
"""How late a ``slow`` vendor answers: above every connector's latency budget, below a check's deadline."""

JOURNAL = 100_000
"""Requests that the demo vendors remember one by one."""

_PAGE = "<!DOCTYPE html><html><head><title>Down for maintenance</title></head><body>Back soon.</body></html>"
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8"}
_JSON = {"Content-Type": "application/json; charset=utf-8"}
_CONNECTORS = tuple(name for name in VENDORS if name != "google")


class Script:
    """Which fault each (tenant, connector) plays: the narrowest word wins, and ``*`` replaces what it covers."""

    def __init__(self) -> None:
        self._faults: dict[tuple[str, str], str] = {}

    def set(self, tenant: str, connector: str, fault: str) -> None:
        """Let `connector` play `fault` for `tenant`; ``*`` covers all, and replaces what was said of each."""
        if fault not in FAULTS:
            raise ValueError(f"fault must be one of {', '.join(FAULTS)}")
        if connector not in (*_CONNECTORS, "*"):
            raise ValueError(f"connector must be * or one of {', '.join(_CONNECTORS)}")
        self._faults = {
            pair: said
            for pair, said in self._faults.items()
            if not _covers(tenant, pair[0]) or not _covers(connector, pair[1])
        }
        self._faults[tenant, connector] = fault

    def of(self, tenant: str | None, connector: str) -> str:
        """The fault to play; ``healthy`` where nothing was said."""
        if not self._faults:
            return "healthy"
        who = tenant or "*"
        for pair in ((who, connector), (who, "*"), ("*", connector), ("*", "*")):
            if pair in self._faults:
                return self._faults[pair]
        return "healthy"

    def clear(self) -> None:
        """Everyone is healthy again."""
        self._faults = {}

    def as_dict(self) -> dict[str, dict[str, str]]:
        """tenant → connector → fault."""
        told: dict[str, dict[str, str]] = {}
        for (tenant, connector), fault in self._faults.items():
            told.setdefault(tenant, {})[connector] = fault
        return told


def _covers(pattern: str, name: str) -> bool:
    return pattern in ("*", name)


class DemoVendors:
    """The server. ``async with DemoVendors() as vendors`` runs it on a free port; see `url`.

    Args:
        host: the address to listen on.
        port: 0 takes a free one.
        slow: seconds a ``slow`` answer takes.
        now: the vendors' clock, Unix seconds.
        ssl_context: a server's, to speak TLS; None speaks plain HTTP.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        slow: float = SLOW_SECONDS,
        now: Callable[[], float] = time.time,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.script = Script()
        self.requests: Counter[str] = Counter()
        self.journal: deque[tuple[float, str, str | None]] = deque(maxlen=JOURNAL)
        """The latest requests: when (Unix seconds), which vendor, which tenant (None: no known credential)."""
        self.url = ""
        self._host = host
        self._port = port
        self._slow = slow
        self._now = now
        self._ssl_context = ssl_context
        self._runner: web.ServerRunner | None = None

    async def start(self) -> str:
        """Listen, and return the URL."""
        server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, backlog=1024, ssl_context=self._ssl_context).start()
        port = self._runner.addresses[0][1]
        self.url = f"{'https' if self._ssl_context else 'http'}://{self._host}:{port}"
        return self.url

    async def aclose(self) -> None:
        """Stop listening and drop every connection, hanging ones included."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        vendor, _, path = request.path[1:].partition("/")
        body = await request.read() if request.can_read_body else b""
        if vendor == "control":
            return self._control(request.method, path, body)
        if vendor == "status":
            told = page(path, self.script.of(AUDIENCE, path), self._now())
            return _send(Reply(404, {"error": "no status page here"}) if told is None else Reply(200, told))
        speak = VENDORS.get(vendor)
        if speak is None:
            return _send(Reply(404, {"error": f"no vendor here; try one of {', '.join(VENDORS)}"}))
        self.requests[vendor] += 1
        tenant = tenant_of(request.headers, body)
        self.journal.append((self._now(), vendor, tenant))
        fault = self.script.of(tenant, "vertex" if vendor == "google" else vendor)
        broken = await self._misbehave(fault)
        call = Call(f"/{path}", tenant, fault, request.headers, body, self._now())
        return broken or _send(speak(call))

    async def _misbehave(self, fault: str) -> web.Response | None:
        """What goes wrong in the same way at every vendor."""
        match fault:
            case "maintenance":
                return web.Response(status=503, text=_PAGE, headers=_HTML)
            case "garbage":
                return web.Response(status=200, text='{"truncated": [1, 2', headers=_JSON)
            case "hanging":
                await asyncio.Event().wait()
            case "slow":
                await asyncio.sleep(self._slow)
        return None

    def _control(self, method: str, path: str, body: bytes) -> web.Response:
        tenant, _, connector = path.partition("/")
        try:
            if method == "POST":
                fault = str(json.loads(body)["fault"])
                self.script.set(tenant, connector, fault)
                told = json.dumps({"tenant": tenant, "connector": connector, "fault": fault})
                return web.Response(text=f"{told}\n", headers=_JSON)
            if method == "DELETE":
                self.script.clear()
                self.requests.clear()
                self.journal.clear()
        except (ValueError, KeyError, TypeError) as error:
            told = str(error) if type(error) is ValueError else 'send JSON such as {"fault": "revoked"}'
            return _send(Reply(400, {"error": told}))
        state = {"faults": self.script.as_dict(), "requests": dict(self.requests), "tenants": self._by_tenant()}
        return _send(Reply(200, state))

    def _by_tenant(self) -> dict[str, dict[str, int]]:
        """tenant → vendor → how many of the latest requests were its own; ``*``: those without a known credential."""
        counted: dict[str, dict[str, int]] = {}
        for (vendor, tenant), count in Counter((vendor, tenant) for _, vendor, tenant in self.journal).items():
            counted.setdefault(tenant or "*", {})[vendor] = count
        return counted


def _send(reply: Reply) -> web.Response:
    if isinstance(reply.body, str):
        return web.Response(status=reply.status, text=reply.body, headers={**_TEXT, **reply.headers})
    return web.Response(status=reply.status, body=json.dumps(reply.body).encode(), headers={**_JSON, **reply.headers})


async def serve(vendors: DemoVendors, listening: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT; `listening` is told the URL."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with vendors:
        listening(vendors.url)
        await stop.wait()


def main(arguments: list[str] | None = None) -> int:
    """The command line: ``python -m worker.demo.vendors --port N``."""
    parser = argparse.ArgumentParser(prog="python -m worker.demo.vendors", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free port")
    parser.add_argument("--port-file", type=Path, help="write the port here once it listens")
    parser.add_argument("--tenants", type=int, default=0, help="play the faults of this many demo tenants")
    parser.add_argument("--slow", type=float, default=SLOW_SECONDS, help="seconds that a slow answer takes")
    options = parser.parse_args(arguments)
    vendors = DemoVendors(options.host, options.port, slow=options.slow)
    for tenant, connector, fault in demo_faults(options.tenants):
        vendors.script.set(tenant, connector, fault)

    def listening(url: str) -> None:
        if options.port_file:
            options.port_file.write_text(url.rsplit(":", 1)[1])
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    try:
        asyncio.run(serve(vendors, listening))
    except OSError as error:
        sys.stderr.write(f"demo vendors cannot listen on {options.host}:{options.port}: {error.strerror}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
