"""The pulse: tells somebody outside that the whole monitor works, so that they notice when nothing is told any more.

Made for services that expect a call at regular times, such as https://healthchecks.io/docs/http_api/: one call of the
address when everything was seen to work, one of the address with ``/fail`` behind it when something is known to be ill.
Between the two (a start) nothing is said. That a timer fires proves nothing, so it is looked at what came of the ticks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import structlog
from yarl import URL

from registry.bootstrap import Parts
from registry.facts import MINUTE_MS
from registry.settings import Settings
from worker.lags import recent
from worker.snapshot import PlatformSnapshot

log = structlog.get_logger(__name__)

SLACK = 60.0
"""Seconds that a periodic task may lack beyond three of its turns, as the alert ConnectorTaskStalled has it."""

SILENT = frozenset({"pulse", "cloud_monitoring", "status_pages"})
"""Tasks whose success depends on somebody outside: they say nothing about the monitor."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is `ill`, in sentences; with nothing ill, `works` says whether everything was seen to work."""

    ill: tuple[str, ...] = ()
    works: bool = False


@dataclass(frozen=True, slots=True)
class Working:
    """What became of the checks: `taken` up from one to three minutes ago, `finished` in the last minutes."""

    taken: int
    finished: int


async def working(parts: Parts) -> Working:
    """Look at the last three minutes. What was taken up a minute ago is finished by now, or its claim has ended."""
    now = parts.clock.now_ms()
    early, all_of_it = await recent(parts.redis, now - 2 * MINUTE_MS, 1), await recent(parts.redis, now, 3)
    waited = early["claimed"] + early["held_back"] - all_of_it["put_off"] - all_of_it["released"]
    finished = sum(count for name, count in all_of_it.items() if _is_finished(name))
    return Working(taken=waited, finished=finished)


def judge(snapshot: PlatformSnapshot, checks: Working) -> Pulse:
    """Does the whole loop work: ticks, claims, checks, publishing?"""
    ages = {task: _age(snapshot.facts, task, snapshot.now_ms) for task in snapshot.paces.keys() - SILENT}
    ill = [
        f"{task} last succeeded {age:.0f} s ago"
        for task, age in sorted(ages.items())
        if age is not None and age > 3 * snapshot.paces[task] + SLACK
    ]
    alone = _age(snapshot.facts, "working", snapshot.now_ms)
    if alone is not None and alone > SLACK:
        ill.append(f"no check process has been there for {alone:.0f} s")
    if checks.taken > 0 and not checks.finished:
        ill.append("checks are begun and none is finished")
    return Pulse(tuple(ill), works=not ill and snapshot.children > 0 and None not in ages.values())


async def told(settings: Settings, pulse: Pulse) -> bool:
    """Make the call that `pulse` asks for; False when none was made, or it was not taken.

    The address is a secret and appears nowhere.
    """
    if settings.heartbeat_url is None or not (pulse.ill or pulse.works):
        return False
    timeout = aiohttp.ClientTimeout(total=settings.heartbeat_timeout)
    try:
        url = URL(settings.heartbeat_url.get_secret_value())
        async with aiohttp.ClientSession(timeout=timeout) as session:
            if pulse.ill:
                log.warning("monitor_ill", why=pulse.ill)
                call = session.post(_failed(url), data="; ".join(pulse.ill).encode(), allow_redirects=False)
            else:
                call = session.get(url, allow_redirects=False)
            async with call as answer:
                status, taken = answer.status, answer.ok and answer.status < 300
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        log.warning("pulse_not_taken", error=type(error).__name__)
        return False
    if not taken:
        log.warning("pulse_not_taken", status=status)
    return taken


def _failed(url: URL) -> URL:
    """The address with ``/fail`` behind its path."""
    return url.with_path(f"{url.raw_path.rstrip('/')}/fail", encoded=True, keep_query=True)


def _age(facts: Mapping[str, int], task: str, now_ms: int) -> float | None:
    last = facts.get(f"{task}_ms")
    return None if last is None else max(0.0, (now_ms - last) / 1000)


def _is_finished(name: str) -> bool:
    kind, _, rest = name.partition("|")
    return kind == "lag" and rest.startswith("check|") and not rest.endswith("|sum_ms")
