"""Many tenants' verdicts, written straight into Redis: what pages show at any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from typing import NoReturn

from registry.bootstrap import Parts
from registry.connector import ConnectorConfig, ConnectorMetadata
from registry.health import Fault, HealthCheck, Quota, Reason, StepStatus, Verdict
from registry.ids import Pair
from registry.reasons import REASONS
from registry.recording import Outcome
from registry.schedule import Entry, Scheduled, Task
from tests.fixtures_history import CONFIG

BUILT_IN = ("github", "gitlab", "linear", "slack", "vertex")
PAGE = 500

Says = Callable[[Pair], Reason | None]
"""What a check of a pair finds; None: it has not been checked yet."""


def well(_: Pair) -> Reason | None:
    return Reason.OK


def named(count: int, prefix: str = "customer-") -> list[str]:
    return [f"{prefix}{number:04}" for number in range(count)]


def invented(parts: Parts, count: int) -> tuple[str, ...]:
    """Registers connectors beside the built-in ones until there are `count`; all names, sorted."""
    for number in range(count - len(parts.catalog.list())):
        name = f"vendor{number:02}"
        manifest = ConnectorMetadata(
            name=name,
            version="1.0.0",
            title=f"Vendor {number}",
            default_base_url=f"https://{name}.example.com",
            auth_methods=("bearer",),
            steps=("api",),
            documentation=f"https://{name}.example.com/docs",
        )
        parts.catalog.register(name, _never, manifest=manifest)
    return tuple(parts.catalog.list())


async def fill(
    parts: Parts, tenants: Sequence[str], connectors: Sequence[str] = BUILT_IN, says: Says = well, error: str = ""
) -> None:
    """Enters every tenant with every connector, and a check of each."""
    pairs = (Pair(connector, tenant) for tenant, connector in product(tenants, connectors))
    while page := list(islice(pairs, PAGE)):
        now = parts.clock.now_ms()
        await parts.schedule.put_many([Entry(pair, 1, CONFIG, reset=False, announce=False) for pair in page])
        await parts.recorder.record(list(_outcomes(page, says, error, await parts.schedule.fence(page[-1]), now)))


def _outcomes(pairs: Sequence[Pair], says: Says, error: str, fence: int, now_ms: int) -> Iterator[Outcome]:
    for pair in pairs:
        reason = says(pair)
        if reason is not None:
            task = Task(Scheduled(pair, 1, None), None, fence)
            yield Outcome(task, found(reason, now_ms, error), f"{pair.connector}|vendor.example.com")


def found(reason: Reason, now_ms: int, error: str = "") -> Verdict:
    """What a check finds: steps, quota, the end of the credential."""
    ok = reason is Reason.OK
    steps = (
        HealthCheck("api", duration_ms=120),
        HealthCheck("auth", StepStatus.PASS if ok else StepStatus.FAIL, 80, None if ok else error or "it was refused"),
    )
    return Verdict(
        reason,
        Fault.NONE if ok else REASONS[reason].fault,
        now_ms,
        error=None if ok else error or f"the vendor says: {reason.value}",
        steps=steps,
        latency_ms=200,
        metadata={"request_id": "7f3a"},
        quota=Quota(5000, 4200, now_ms + 1_800_000),
        credential_expires_ms=now_ms + 40 * 86_400_000,
    )


def _never(_: ConnectorConfig) -> NoReturn:
    raise AssertionError("nobody uses it")
