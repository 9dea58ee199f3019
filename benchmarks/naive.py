"""The naive way, to compare with: one Celery task a check, with a client of its own. Run by `benchmarks.checks`."""

from __future__ import annotations

import asyncio
import os

import aiohttp
from celery import Celery

app = Celery("naive", broker=os.environ.get("BROKER_URL", "redis://"))
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=4, task_default_queue="naive")
app.conf.task_acks_late = True  # what is not acknowledged is not done yet: so the end of a round can be seen


@app.task(name="check_one")
def check_one(url: str, token: str) -> None:
    """One GET, through a client made for it."""
    asyncio.run(_get(url, token))


async def _get(url: str, token: str) -> None:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.get(url) as answer,
    ):
        assert answer.status == 200
        await answer.read()
