"""Heartbeat files of real processes: who works, who hangs, who is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from registry.settings import Settings
from tests.fixtures_redis import RedisServer
from tests.waiting import eventually
from worker.heartbeat import trouble
from worker.turning import heartbeat, role_of

ROOT = Path(__file__).parent.parent
STALE = 1.5

BEATING = """
import sys, time
from pathlib import Path
from worker.heartbeat import Heartbeat
heartbeat = Heartbeat(Path("."), sys.argv[1])
while True:
    heartbeat.beat()
    time.sleep(0.1)
"""

LOOP = """
import asyncio, signal, sys, time
from worker.lags import Lags
from worker.turning import turn

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, time.sleep, 600)
    await turn("checks", Lags())

asyncio.run(main())
"""


@contextmanager
def running(directory: Path, code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    settings = {"HEARTBEAT_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, cwd=directory, env=os.environ | settings)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def alive(directory: Path, role: str = "beat") -> Callable[[], bool]:
    return lambda: trouble(directory, role, STALE) is None


def hangs(directory: Path, process: subprocess.Popen[bytes], role: str = "beat") -> Callable[[], bool]:
    return lambda: f"process {process.pid} " in (trouble(directory, role, STALE) or "")


def test_a_stopped_process_goes_stale_and_is_alive_again_when_it_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, BEATING, "beat") as process:
        eventually("a heartbeat", alive(tmp_path))
        process.send_signal(signal.SIGSTOP)
        eventually("it is stale", hangs(tmp_path, process))
        process.send_signal(signal.SIGCONT)
        eventually("it is alive again", alive(tmp_path))


def test_a_blocked_event_loop_is_stale_although_its_process_lives(tmp_path: Path) -> None:
    with running(tmp_path, BEATING, "checks"), running(tmp_path, LOOP) as process:
        eventually("heartbeats", alive(tmp_path, "checks"))
        process.send_signal(signal.SIGUSR1)
        eventually("it is stale", hangs(tmp_path, process, "checks"))
        assert process.poll() is None


def test_one_that_hangs_is_found_among_others_that_work(tmp_path: Path) -> None:
    with running(tmp_path, BEATING, "beat"), running(tmp_path, BEATING, "beat") as second:
        eventually("heartbeats", lambda: len(list(tmp_path.glob("beat.*"))) == 2)
        second.send_signal(signal.SIGSTOP)
        eventually("it is stale", hangs(tmp_path, second))


def test_a_killed_process_is_absent_not_stale_and_its_successor_takes_its_file_away(tmp_path: Path) -> None:
    with running(tmp_path, BEATING, "beat"):
        eventually("a heartbeat", alive(tmp_path))
    assert trouble(tmp_path, "beat", 0.0) == f"no beat process has a heartbeat in {tmp_path}"
    with running(tmp_path, BEATING, "beat"):
        eventually("a heartbeat", alive(tmp_path))
        assert len(list(tmp_path.glob("beat.*"))) == 1


def test_a_worker_without_children_is_not_alive(tmp_path: Path) -> None:
    with running(tmp_path, BEATING, "checks"):
        eventually("a heartbeat", lambda: any(tmp_path.glob("checks.*")))
        assert trouble(tmp_path, "checks") == f"no checks-child process has a heartbeat in {tmp_path}"


def test_a_directory_that_cannot_be_written_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEARTBEAT_DIR", str(tmp_path / "file"))
    assert heartbeat("beat") is None
    assert trouble(tmp_path / "file", "beat")


def test_the_probe_says_what_is_wrong_and_asks_nobody(tmp_path: Path) -> None:
    code = (
        "import sys; from worker.heartbeat import main; code = main(sys.argv[1:]); print(len(sys.modules)); exit(code)"
    )
    with running(tmp_path, BEATING, "beat"):
        eventually("a heartbeat", alive(tmp_path))
        for role, expected, told in (("beat", 0, ""), ("publish", 1, "no publish process"), ("beet", 2, "usage")):
            ran = subprocess.run(
                [sys.executable, "-c", code, role, str(tmp_path)], capture_output=True, text=True, check=False
            )
            assert (ran.returncode, told in ran.stderr) == (expected, True)
            assert int(ran.stdout) < 150, "it imports next to nothing"


def test_a_beat_inside_a_worker_has_a_heartbeat_of_its_own_and_lives_on(
    settings: Settings, redis_server: RedisServer, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "celery", "--app", "worker.app", "worker", "--beat", "--concurrency", "1"]
    beats, environment = tmp_path / "beats", {"REDIS_URL": settings.redis_url}
    environment["BROKER_URL"] = f"redis+socket://{redis_server.socket}?virtual_host=0"
    environment |= {"SQLITE_PATH": str(settings.sqlite_path), "HEARTBEAT_DIR": str(beats)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=log, stderr=log)
    try:
        eventually("both beat", lambda: alive(beats)() and alive(beats, "dispatch")())
        (beat,) = beats.glob("beat.*")
        first = beat.read_bytes()
        eventually("it beats on", lambda: beat.read_bytes() != first)
        assert int(first.split()[1]) in {child.pid for child in psutil.Process(process.pid).children()}
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize(
    ("queues", "role"),
    [({"checks"}, "checks"), ({"publish"}, "publish"), ({"checks", "dispatch"}, "dispatch"), ((), "dispatch")],
)
def test_a_workers_role_is_its_queue(queues: set[str], role: str) -> None:
    assert role_of(queues) == role
