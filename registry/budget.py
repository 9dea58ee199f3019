"""The operator's budgets: how many checks an hour a vendor, a tenant or a pair gets at most, over all processes.

A check takes one from every budget of its pair before it begins; a batch asks for all its pairs in one atomic call.
Who finds a budget used up is put off to when it has room, one after the other, and its verdict ages meanwhile. So that
this is rare, a pair learns its *share*: the interval at which all who share its budgets fit into them.

All budgets have one hash tag: a pair's are taken together or not at all. See ``docs/adr/0006-budgets.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2
from typing import NamedTuple

from msgspec.structs import replace

from registry import keys
from registry.clock import steady
from registry.connection import Redis, execute, script
from registry.facts import count
from registry.schedule import Schedule, Scheduled, Task
from registry.settings import Settings

EVERYBODY = "*"
"""In ``TENANT_BUDGETS``: every tenant that is not named."""

SAVED = 20
"""One part in so many of a budget may be saved up, and used at once."""

REGULAR = 0.8
"""Part of a budget that regular checks are spread over; the rest is for confirming failures and checks on demand."""

STEPS = 4
"""Shares are rounded up to so many steps an octave, so that not every new pair moves the phases of all others."""

COUNT_EVERY = 30.0
"""Seconds between two looks at how many pairs a vendor's budget is shared by."""


class Budget(NamedTuple):
    """At most `checks` in any window of `window` milliseconds, of whoever shares it."""

    key: str
    checks: int
    window: int

    @property
    def spacing(self) -> int:
        """Milliseconds between two checks at the steady pace."""
        return ceil(self.window / (self.checks + 1 - self.saved))

    @property
    def saved(self) -> int:
        """Checks that can be made at once after a pause.

        With ``n`` of them, check number ``checks + 1`` comes ``checks + 1 - n`` spacings after the first, a window.
        """
        return max(1, self.checks // SAVED)

    @property
    def tolerance(self) -> int:
        """Milliseconds by which a check may be ahead of the steady pace."""
        return (self.saved - 1) * self.spacing

    def share(self, sharing: int) -> int:
        """The interval, in milliseconds, at which `sharing` pairs fit into it."""
        steps = ceil(STEPS * log2(max(1, sharing) * self.spacing / REGULAR))
        return ceil(2 ** (steps / STEPS))


class Budgets:
    """Asks the budgets. Costs nothing where none is set, else one round trip a batch; raises what redis-py raises."""

    def __init__(self, redis: Redis, schedule: Schedule, settings: Settings) -> None:
        self._redis, self._schedule, self._settings = redis, schedule, settings
        self._script = script(redis, "budget")
        self._begin = settings.redis_timeout + settings.batch_patience
        # A check that was admitted at one end of the window may reach the vendor as late as this.
        slack = self._begin + 2 * settings.check_timeout
        self._window = ceil((settings.budget_window + slack) * 1000)
        self._of_vendor = {
            name: Budget(keys.budget("vendor", name), checks, self._window)
            for name, checks in settings.vendor_budgets.items()
        }
        self._pairs: dict[str, int] = {}
        self._counted = float("-inf")

    def of(self, scheduled: Scheduled) -> list[Budget]:
        """The budgets a check of this pair is taken from; service checks belong to no tenant."""
        pair, config, tenants = scheduled.pair, scheduled.config, self._settings.tenant_budgets
        found = []
        if vendor := self._of_vendor.get(pair.connector):
            found.append(vendor)
        if tenants and not pair.is_service and (checks := tenants.get(pair.tenant, tenants.get(EVERYBODY))):
            found.append(Budget(keys.budget("tenant", pair.tenant), checks, self._window))
        if config and config.budget:
            found.append(Budget(keys.budget("pair", str(pair)), config.budget, self._window))
        return found

    def vendor_share(self, connector: str, pairs: int) -> int:
        """The interval, in milliseconds, that a vendor's budget leaves each of so many pairs; 0: it has none."""
        return self._of_vendor[connector].share(pairs) if connector in self._of_vendor else 0

    async def admit(self, tasks: Sequence[Task]) -> list[Task]:
        """Those that may begin, each with its share; the others are put off to when there is room, and counted."""
        wanted = [self.of(task.scheduled) for task in tasks]
        if not any(wanted):
            return list(tasks)
        answers = await self._take(tasks, wanted, on_demand=False)
        off = {task.held: answer for task, answer in zip(tasks, answers, strict=True) if isinstance(answer, int)}
        if off:
            await self._schedule.reschedule(off)
            async with self._redis.pipeline(transaction=False) as pipe:
                count(pipe, {"put_off": len(off)}, self._schedule.clock.now_ms())
                await pipe.execute()
        return [answer for answer in answers if isinstance(answer, Task)]

    async def admit_now(self, task: Task) -> Task | int:
        """A check on demand: the task if it may begin, else when there is room again, Unix milliseconds."""
        wanted = self.of(task.scheduled)
        return (await self._take([task], [wanted], on_demand=True))[0] if wanted else task

    async def _take(
        self, tasks: Sequence[Task], wanted: Sequence[list[Budget]], *, on_demand: bool
    ) -> list[Task | int]:
        numbers: dict[Budget, int] = {}
        mine = [[numbers.setdefault(budget, len(numbers) + 1) for budget in budgets] for budgets in wanted]
        args: list[int] = [int(on_demand), int(self._settings.backoff_max * 1000), len(numbers)]
        args += [figure for budget in numbers for figure in (budget.spacing, budget.tolerance)]
        args += [figure for which in mine for figure in (len(which), *which)]
        await self._count_vendors()
        begin_until = steady() + self._begin
        tenants = list({task.pair.tenant for task in tasks} if self._settings.tenant_budgets else ())
        async with self._redis.pipeline(transaction=False) as pipe:
            await self._script(keys=[keys.BUDGETS_SINCE, *(budget.key for budget in numbers)], args=args, client=pipe)
            for tenant in tenants:
                pipe.get(keys.index(keys.shard_of(tenant, self._schedule.shards), tenant))
            answers, *names = await execute(pipe)
        sharing = {
            keys.budget("tenant", one): len((text or b"").split()) for one, text in zip(tenants, names, strict=True)
        }
        sharing |= self._pairs
        shares = [0, *(budget.share(sharing.get(budget.key, 1)) for budget in numbers)]
        return [
            int(answer)
            or replace(task, share=max([shares[number] for number in which], default=0), begin_until=begin_until)
            for task, which, answer in zip(tasks, mine, answers, strict=True)
        ]

    async def _count_vendors(self) -> None:
        """See now and then how many pairs share the vendors' budgets."""
        if self._of_vendor and steady() - self._counted > COUNT_EVERY:
            depth = await self._schedule.depth(sorted(self._of_vendor))
            self._pairs = {self._of_vendor[name].key: pairs for name, (pairs, _) in depth.items()}
            self._counted = steady()
