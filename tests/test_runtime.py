"""The event loop of a process, and what runs beside its tasks."""

import asyncio

from structlog.testing import capture_logs

from registry.settings import Settings
from tests.waiting import eventually
from worker.runtime import Runtime


async def breaks(ended: asyncio.Event) -> None:
    ended.set()
    raise LookupError("hunter2")


def test_what_breaks_beside_everything_else_is_logged_without_its_words(settings: Settings) -> None:
    runtime, ended = Runtime(settings), asyncio.Event()
    with capture_logs() as told:
        runtime.start(breaks(ended))
        runtime.run(ended.wait())
        eventually("it is logged", lambda: [line for line in told if line["event"] == "background_work_broke"])
    runtime.close()
    (line,) = [line for line in told if line["event"] == "background_work_broke"]
    assert (line["work"], line["error"], line["where"].partition(":")[0]) == ("breaks", "LookupError", "breaks")
    assert "hunter2" not in str(line)
