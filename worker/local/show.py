"""What ``connectors up`` shows until it ends: a live table on a terminal, else the table once and each transition."""

from __future__ import annotations

import asyncio
import subprocess
import time
from typing import TYPE_CHECKING

from rich.live import Live

from worker.commands.exits import Exit
from worker.commands.printing import console, note
from worker.commands.reading import Watcher
from worker.commands.screen import page
from worker.commands.status import missing
from worker.commands.table import advice, health_table, line, summary, urgent
from worker.local import doorkey
from worker.local.directory import RunDirectory
from worker.local.environment import Local

if TYPE_CHECKING:
    from rich.console import Console

    from registry.bootstrap import Parts

EVERY = 1.0
"""Seconds between two looks, if looking takes little of them."""

SETTLED_AFTER = 30.0
"""Seconds after which the table is printed even if some pair was not checked yet."""


def addresses(directory: RunDirectory, local: Local) -> list[str]:
    """Where everything is to be found."""
    token = doorkey.read(directory)
    rows = [
        # A fragment is sent to no server, so no log ever holds the token.
        *([f"dashboard:     {local.api_url}/{f'login#{token}' if token else ''}"] if local.api_url else []),
        f"/metrics:      {local.settings.metrics_url}",
        f"Pushgateway:   {local.settings.pushgateway_address or 'none installed: gauges are served at /metrics only'}",
    ]
    if local.vendors_url:
        rows.append(
            f'demo control:  curl -X POST {local.vendors_url}/control/acme-01/slack -d \'{{"fault": "revoked"}}\''
        )
    return rows


async def show(
    directory: RunDirectory, local: Local, parts: Parts, supervisor: subprocess.Popen[bytes], stop: asyncio.Event
) -> Exit:
    """Show everybody's health until `stop`, or until supervisord has died."""
    screen, watcher = console(), Watcher(parts)
    if screen.is_terminal:
        await _live(directory, local, watcher, supervisor, stop, screen)
    else:
        await _lines(directory, local, watcher, supervisor, stop, screen)
    if stop.is_set():
        return Exit.OK
    note(f"the supervisor has died, so everything is ended: see {directory.log('supervisord')}")
    return Exit.PROBLEM


async def _live(
    directory: RunDirectory,
    local: Local,
    watcher: Watcher,
    supervisor: subprocess.Popen[bytes],
    stop: asyncio.Event,
    screen: Console,
) -> None:
    header = [*addresses(directory, local), "Ctrl-C or `connectors down` ends everything", ""]
    with Live(console=screen, auto_refresh=False) as live:
        while not stop.is_set() and supervisor.poll() is None:
            started = time.monotonic()
            await watcher.look()
            warnings = [f"{name} does not run: see {directory.log(name)}" for name in missing(directory)]
            live.update(page(watcher, screen, header, warnings), refresh=True)
            await _pause(stop, time.monotonic() - started)


async def _lines(
    directory: RunDirectory,
    local: Local,
    watcher: Watcher,
    supervisor: subprocess.Popen[bytes],
    stop: asyncio.Event,
    screen: Console,
) -> None:
    for row in addresses(directory, local):
        screen.print(row, soft_wrap=True)
    begun, told = time.monotonic(), False
    while not stop.is_set() and supervisor.poll() is None:
        started = time.monotonic()
        turned = await watcher.look()
        if told:
            for status in turned:
                screen.print(line(status, screen), soft_wrap=True)
        elif _settled(watcher) or started - begun > SETTLED_AFTER:
            told = True
            _print(watcher, screen)
        await _pause(stop, time.monotonic() - started)


def _settled(watcher: Watcher) -> bool:
    statuses = watcher.statuses.values()
    return bool(statuses) and all(status.checked_ms is not None and not status.stale for status in statuses)


def _print(watcher: Watcher, screen: Console) -> None:
    screen.print(health_table(watcher.statuses, screen))
    screen.print(summary(watcher.statuses.values(), screen))
    if urgent(watcher.statuses.values()):
        screen.print(advice(watcher.statuses))


async def _pause(stop: asyncio.Event, took: float) -> None:
    """Wait until the next look: looking at very many pairs may not take more than a fifth of the time."""
    try:
        async with asyncio.timeout(max(EVERY - took, 4 * took)):
            await stop.wait()
    except TimeoutError:
        return
