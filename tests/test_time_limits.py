"""How long a task may take, as a process of Celery's has it."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
from worker.tasks import app, check_batch_task, publish_task
app.finalize()
print(*(limit for task in (publish_task, check_batch_task) for limit in (task.soft_time_limit, task.time_limit)))
"""


@pytest.mark.parametrize(("every", "limits"), [(15, (30, 40)), (60, (120, 130))])
def test_publishing_may_take_as_long_as_its_lease_lasts(every: int, limits: tuple[int, int]) -> None:
    environment = {**os.environ, "PUBLISH_EVERY": str(every)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert [float(limit) for limit in done.stdout.split()] == [*limits, 30, 40]
