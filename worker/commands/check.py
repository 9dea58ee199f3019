"""``connectors check``: one check, now, and every step of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from worker.commands.options import AsJson, Connector, Tenant

if TYPE_CHECKING:
    from registry.bootstrap import Parts
    from registry.health import HealthStatus

ALONE = "this shell lacks what the workers may have, or Redis takes no writes: `connectors health` has what they found"


def check(connector: Connector, *, tenant: Tenant, as_json: AsJson = False) -> None:
    """Check one connector of one tenant now, and record the verdict like any other.

    It is not recorded where the secret is not to be had here, as the workers may have it, or Redis takes no writes.

    Exit code: 0 usable, 1 unhealthy, 2 no such connector or not configured, 3 unknown, or not checked because a budget
    of checks is used up.
    """
    from registry.errors import CacheUnavailable, NotConfigured
    from registry.health import Reason
    from worker.commands.exits import Exit, exit_of_health
    from worker.commands.printing import print_json
    from worker.commands.session import with_parts

    async def work(parts: Parts) -> HealthStatus:
        from registry.facade import ConnectorRegistry

        return await ConnectorRegistry(parts).health_check(connector, tenant_id=tenant, max_age=0)

    status = with_parts(work)
    if status.reason is Reason.NOT_CONFIGURED:
        raise NotConfigured(
            f"tenant {tenant} has no connector {connector}: add it with `connectors config set {connector} "
            f"--tenant {tenant}`"
        )
    if status.reason is Reason.MONITOR_ERROR and status.checked_ms is None and status.error:
        raise CacheUnavailable(status.error)
    if as_json:
        print_json(status.as_dict())
    else:
        show_check(status, recorded=True)
    raise typer.Exit(Exit.UNKNOWN if status.put_off_until else exit_of_health([status]))


def show_check(status: HealthStatus, *, recorded: bool = False) -> None:
    """One check for a person: what it concludes, and every step; and if it was to be `recorded`, where it was not."""
    from rich.table import Table
    from rich.text import Text

    from worker.commands.printing import console
    from worker.commands.table import symbol

    screen, newest = console(), status.raw or status
    screen.print(f"{symbol(status.status, screen)} {status.connector} of {status.tenant_id}: {status.status.value}")
    facts = Table(box=None, show_header=False, pad_edge=False)
    if recorded and status.checked_ms and not status.version:
        facts.add_row(Text("not recorded", style="bold"), Text(ALONE))
    for name, value in _facts(status):
        facts.add_row(Text(name, style="bold"), Text(value))
    screen.print(facts)
    steps = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("step", "outcome", "ms", "error"):
        steps.add_column(name, overflow="fold")
    for step in newest.checks:
        steps.add_row(step.name, step.status.value, f"{step.duration_ms:.1f}", Text(step.error or ""))
    screen.print()
    screen.print(steps)


def _facts(status: HealthStatus) -> list[tuple[str, str]]:
    rows = [
        ("not checked now", status.put_off_until and f"a budget of checks is used up until {status.put_off_until}"),
        ("reason", status.reason.value),
        ("fault", status.fault.value),
        ("error", status.error),
        ("what to do", status.action),
        ("checked", status.timestamp),
        ("since", status.since),
        ("took", None if status.latency_ms is None else f"{status.latency_ms:.1f} ms"),
        ("credential ends", status.credential_expires_at),
        ("quota", status.quota and f"{status.quota.remaining} of {status.quota.limit} left"),
    ]
    if status.raw:
        alone = f"{status.raw.status.value}, {status.raw.reason.value}: {status.raw.error or ''} (not yet confirmed)"
        rows.append(("this check alone", alone))
    return [(name, value) for name, value in rows if value]
