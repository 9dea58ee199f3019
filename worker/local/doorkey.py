"""The token of a local run: who started it on loopback needs no other to use the API and the dashboard."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import TYPE_CHECKING

from registry.errors import NotConfigured
from registry.roles import Role
from worker.commands.session import actor
from worker.local.directory import RunDirectory, write_private

if TYPE_CHECKING:
    from registry.bootstrap import Parts

DAYS = 7
"""How long it is valid; every start makes another one and revokes the last."""


async def renew(parts: Parts, directory: RunDirectory) -> None:
    """Write a new admin's token into the run directory, where only its owner reads it; revoke the last one.

    Beyond loopback none is made: there `connectors tokens create` is for those who are to have one.
    """
    last, who = read(directory), actor()
    directory.token.unlink(missing_ok=True)
    if last is not None:
        with suppress(NotConfigured):  # it has expired, or another store is in use now
            await parts.access.revoke(last.split("_")[1], actor=who)
    if is_loopback(parts.settings.api_host):
        _, token = await parts.access.create(Role.ADMIN, actor=who, note="connectors up", days=DAYS)
        write_private(directory.token, token.get_secret_value())


def read(directory: RunDirectory) -> str | None:
    """The token, if there is one."""
    if not directory.token.is_file():
        return None
    text = directory.token.read_text().strip()
    return text if text.count("_") >= 2 else None


def is_loopback(host: str) -> bool:
    """Is an address reached from this machine alone?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
