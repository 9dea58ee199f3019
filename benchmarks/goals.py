"""The figures to reach, as the design tells them; each benchmark's `Figure.row` names one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """One row of the design's table; `module` is the benchmark that measures it."""

    row: str
    what: str
    goal: str
    module: str


GOALS = (
    Goal(
        "checks",
        "full checks (claim → HTTP → verdict → cache → events), as rate on the same 2 cores and as CPU-seconds per "
        "check (target's own CPU excluded)",
        "≥ 4 × the probes per second of `prometheus-blackbox-exporter` on the same target, and ≥ 60 % of a bare "
        "`aiohttp` loop doing the same GETs",
        "checks",
    ),
    Goal("naive", "one task per check (the naive way), same target", "ours ≥ 8 ×", "checks"),
    Goal(
        "growth",
        "cost growth",
        "cost per check and per dispatch flat (at most 20 % more; less is no fault) from 1,000 to 1,000,000 pairs",
        "growth",
    ),
    Goal(
        "load",
        "load of the checks, second by second",
        "flat: the highest second of an interval ≤ 1.25 × the mean; after a stop or a loss of Redis twice as much",
        "load",
    ),
    Goal("read", "cached read of one verdict through the facade", "≤ 1.3 × a raw redis-py `GET`", "reads"),
    Goal("page", "a tenant's 5–50 connectors through the facade", "≤ 1.5 × one raw `MGET`", "reads"),
    Goal("memory", "Redis per pair, for verdict and schedule", "≤ 700 bytes; history, apart, ≤ 1 KB", "memory"),
    Goal("rss", "memory of a worker child", "flat over 1,000,000 checks", "memory"),
    Goal(
        "detection",
        "vendor goes down → consumers routed away",
        "p99 ≤ one interval + `confirm_delay` + 2 s",
        "detection",
    ),
    Goal("repair", "configuration fixed → healthy", "p99 ≤ 2 s", "detection"),
    Goal(
        "failover",
        "worker or beat killed",
        "no pair overdue by more than max(interval, lease) + 5 s",
        "detection",
    ),
    Goal(
        "cost",
        "configuration-store reads per steady-state check; vendor calls per check",
        "0; 1 (2 at most)",
        "detection",
    ),
    Goal("publish", "100,000 pairs to a real Pushgateway", "≤ 5 s a cycle", "publishing"),
    Goal(
        "api",
        "the HTTP API: 200 streams and 500 reads a second while 1,000 checks a second run",
        "it holds; every transition is told, p99 ≤ 1 s",
        "api",
    ),
    Goal("import", "`import registry`", "≤ 150 ms more than an empty Python", "import_time"),
)
