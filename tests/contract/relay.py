"""A relay between a connector and a server: the connector's code is untouched, and every exchange is seen.

Prism chooses its answer by the header ``Prefer``, which no connector sends: the relay adds it.
https://docs.stoplight.io/docs/prism/83dbbd75532cf-http-mocking
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import ClientSession, web

_HOP = frozenset({"connection", "content-encoding", "content-length", "host", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as it is passed on."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what the server answered."""

    call: Call
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def objections(self) -> list[str]:
        """What Prism says against the request: its violations, or that the document knows no such thing."""
        where = f"{self.call.method} {self.call.path}"
        found = [one for one in json.loads(self.headers.get("sl-violations", "[]")) if one["location"][0] == "request"]
        if self.headers.get("content-type", "").startswith("application/problem+json"):
            return [f"{where}: {json.loads(self.body)['title']}"]
        return [f"{where}: {one['message']}" for one in found]


class Relay:
    """Passes requests on to `upstream`.

    Args:
        prefer: path → the ``Prefer`` of requests for it.
        spelled: how a request is passed on, where the document spells it otherwise.
        status: the status that is passed back.
    """

    url = ""

    def __init__(
        self,
        session: ClientSession,
        upstream: str,
        *,
        prefer: Mapping[str, str],
        spelled: Callable[[Call], Call],
        status: Callable[[int], int],
    ) -> None:
        self.exchanges: list[Exchange] = []
        self._session = session
        self._upstream = upstream
        self._prefer = prefer
        self._spelled = spelled
        self._status = status

    @property
    def objections(self) -> list[str]:
        """Of all exchanges, in their order."""
        return [objection for exchange in self.exchanges for objection in exchange.objections]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Pass one request on, and its answer back."""
        call = self._spelled(Call(request.method, request.path, _kept(request.headers), await request.read()))
        prefer = {"Prefer": self._prefer[call.path]} if call.path in self._prefer else {}
        async with self._session.request(
            call.method,
            self._upstream + call.path,
            headers={**call.headers, **prefer},
            data=call.body or None,
            skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
        ) as answer:
            body, headers = await answer.read(), _kept(answer.headers)
        self.exchanges.append(Exchange(call, answer.status, headers, body))
        return web.Response(status=self._status(answer.status), headers=headers, body=body)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() not in _HOP}
