"""Everything that the HTTP API says to an admin, to be searched for secrets; what it logs is in a file of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

LOG = Path("api.log")


def served(
    eventually: Callable[[str, Callable[[], bool]], None],
    token: str,
    configured: Mapping[str, Iterable[str]],
    spoilt: Iterable[str],
) -> bytes:
    """Ask a real process for everything there is to read, and let it refuse what cannot be used."""
    out = Path("api.out")
    with out.open("wb") as said, LOG.open("wb") as log:
        command = [sys.executable, "-m", "worker.cli", "serve", "--port", "0"]
        process = subprocess.Popen(command, stdout=said, stderr=log, env=os.environ)
        try:
            eventually("the API is served", lambda: out.read_bytes().endswith(b"/\n"))
            api = _Client(out.read_text().strip().rstrip("/"), token)
            paths = json.loads(api.ask("GET", "/v1/openapi.json"))["paths"]
            readable = [path for path, methods in paths.items() if "get" in methods]
            told = [api.ask("GET", url) for path in readable for url in _urls(path, configured)]
            for pair in (f"/v1/tenants/{t}/connectors/{name}" for t, names in configured.items() for name in names):
                kept = json.dumps(json.loads(api.ask("GET", f"{pair}/config")).get("config"))
                told += [api.ask("POST", f"{pair}/check"), api.ask("POST", f"{pair}/config/test", kept)]
                told += [api.ask("PUT", f"{pair}/config", kept)]
            told += [api.ask("PUT", "/v1/tenants/spoilt/connectors/github/config", document) for document in spoilt]
            return b"\n".join(told)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _urls(path: str, configured: Mapping[str, Iterable[str]]) -> Iterable[str]:
    """The addresses that a path stands for: those of every tenant and pair."""
    for tenant, connectors in configured.items():
        for name in connectors:
            url = path.format(tenant=tenant, connector=name, name=name, window="x")
            yield url + (f"?tenant_id={tenant}" if path.startswith("/connectors") else "")
            if "{" not in path:
                return
            if "connector" not in path:
                break


class _Client:
    def __init__(self, url: str, token: str) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: str | None = None) -> bytes:
        """The body of an answer, whatever its status; of a stream, which does not end, how it begins."""
        headers = self._headers | ({"If-Match": "*"} if method == "PUT" else {})
        request = urllib.request.Request(self._url + path, body.encode() if body else None, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own, on loopback
                return bytes(answer.read1() if path.endswith("/stream") else answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.read()
