"""``connectors up`` before anything runs: what it refuses, what it chooses, and the list of its processes."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values

from registry.settings import Settings
from tests.commands.conftest import Cli
from worker.commands.exits import BadInput
from worker.local import environment, leftovers, servers, supervision
from worker.local.directory import RunDirectory, RunLock
from worker.local.processes import APPLICATION

ROOT = Path(__file__).parent.parent.parent
OURS = {name.upper() for name in Settings.model_fields}


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """The run directory of an empty directory, in an environment that sets nothing."""
    monkeypatch.chdir(tmp_path)
    for name in OURS & set(os.environ):
        monkeypatch.delenv(name)
    directory = RunDirectory.here()
    directory.prepare()
    return directory


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_the_procfile_has_the_processes_that_up_starts() -> None:
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    assert lines == [process.line() for process in APPLICATION]


def test_supervisord_looks_after_every_process_and_ends_the_servers_last(empty: RunDirectory) -> None:
    local = environment.prepare(empty, demo_tenants=3)
    parser = configparser.RawConfigParser()
    parser.read_string(supervision.configuration(empty, local))
    programs = {name.partition(":")[2] for name in parser.sections() if name.startswith("program:")}
    assert programs == {process.name for process in (*local.servers, *APPLICATION)}
    assert {parser[f"program:{name}"]["autorestart"] for name in programs} == {"true"}
    assert int(parser["group:servers"]["priority"]) < int(parser["group:application"]["priority"])
    beat = shlex.split(parser["program:beat"]["command"])
    assert beat[:3] == [sys.executable, "-m", "celery"]


def test_nothing_that_up_makes_can_be_read_by_others(empty: RunDirectory) -> None:
    environment.prepare(empty, demo_tenants=3)
    empty.adopt_env()
    assert stat.S_IMODE(empty.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(empty.env.stat().st_mode) == 0o600
    assert stat.S_IMODE((empty.path / "encryption.key").stat().st_mode) == 0o600


def test_ports_and_key_are_kept_for_the_next_run(empty: RunDirectory) -> None:
    environment.prepare(empty, demo_tenants=3)
    empty.adopt_env()
    first = dotenv_values(empty.env)
    environment.prepare(empty, demo_tenants=3)
    empty.adopt_env()
    assert dotenv_values(empty.env) == first


def test_a_port_that_is_taken_meanwhile_is_replaced(empty: RunDirectory, taken: int) -> None:
    empty.env.write_text(f"METRICS_PORT='{taken}'\nVENDOR_URLS='{{\"github\": \"http://127.0.0.1:{taken}/github\"}}'\n")
    local = environment.prepare(empty, demo_tenants=3)
    assert local.settings.metrics_port != taken
    assert str(taken) not in (local.vendors_url or "")


def test_the_environment_wins_over_what_up_would_choose(
    empty: RunDirectory, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("CHECK_INTERVAL", "33")
    monkeypatch.setenv("PUSHGATEWAY_URL", "http://127.0.0.1:1")
    local = environment.prepare(empty, demo_tenants=3)
    assert (local.settings.redis_url, local.settings.check_interval) == (redis_url, 33)
    assert [process.name for process in local.servers] == ["vendors"]
    assert local.settings.confirm_delay == 2, "the rest is the demo's pace"


def test_the_interval_of_the_command_line_wins_over_the_environment(
    empty: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHECK_INTERVAL", "33")
    local = environment.prepare(empty, demo_tenants=None, interval=7)
    assert (local.settings.check_interval, local.overrides["CHECK_INTERVAL"]) == (7, "7")


def test_secrets_of_the_environment_are_not_written_down(empty: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    monkeypatch.setenv("ENCRYPTION_KEYS", key)
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@127.0.0.1:6379/3")
    local = environment.prepare(empty, demo_tenants=None)
    assert local.settings.broker_url == "redis://:hunter2@127.0.0.1:6379/0"
    empty.adopt_env()
    written = empty.env.read_text()
    assert key not in written
    assert "hunter2" not in written


@pytest.mark.parametrize(
    ("cache", "broker"),
    [
        ("redis://h:1/1", "redis://h:1/0"),
        ("redis://h:1/0", "redis://h:1/1"),
        ("redis://h:1", "redis://h:1/1"),
        ("rediss://u:p@h:1/4?ssl_cert_reqs=none", "rediss://u:p@h:1/0?ssl_cert_reqs=none"),
        ("redis://h:1?db=2", "redis://h:1/0"),
        ("unix:///a/b.sock?db=1", "redis+socket:///a/b.sock?virtual_host=0"),
        ("unix:///a/b.sock", "redis+socket:///a/b.sock?virtual_host=1"),
    ],
)
def test_the_broker_stands_beside_the_cache_in_another_database(cache: str, broker: str) -> None:
    assert environment.other_database(cache) == broker


def test_behind_sentinel_the_broker_is_the_operators_to_name() -> None:
    with pytest.raises(BadInput, match="BROKER_MASTER"):
        environment.other_database("redis+sentinel://host:26379/cache/1")


def test_a_long_or_unusual_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path / ".run").socket.parent == tmp_path / ".run"
    for odd in ("x" * 100, "with space", "percent%"):
        assert RunDirectory(tmp_path / odd / ".run").socket.parent.parent != tmp_path / odd
        assert len(str(RunDirectory(tmp_path / odd / ".run").socket)) < 100


def test_a_port_in_use_is_refused(cli: Cli, taken: int) -> None:
    cli.environment.setenv("METRICS_PORT", str(taken))
    ran = cli("up", "--demo")
    assert (ran.code, f"METRICS_PORT: port {taken} is in use" in ran.err) == (2, True)
    served = cli("metrics")
    assert (served.code, f"127.0.0.1:{taken}" in served.err) == (2, True)


def test_a_data_directory_that_cannot_be_used_is_refused(cli: Cli) -> None:
    cli.write(".run", "a file")
    ran = cli("up", "--demo")
    assert (ran.code, "cannot be written" in ran.err) == (2, True)


def test_a_redis_that_does_not_answer_is_refused(cli: Cli) -> None:
    cli.environment.setenv("REDIS_URL", "redis://127.0.0.1:1/1")
    ran = cli("up", "--demo")
    assert (ran.code, "REDIS_URL" in ran.err) == (2, True)


def test_a_machine_without_redis_is_told_what_to_install(
    empty: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)  # a Python without the wheel
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="apt-get install redis-server"):
        servers.redis(empty, empty.path)


def test_a_broken_tenants_file_starts_nothing_and_changes_nothing(cli: Cli) -> None:
    cli.environment.delenv("REDIS_URL")
    ran = cli("up", "--tenants", cli.write("t.yaml", "tenants: {acme: {nope: {}}}"))
    assert (ran.code, "t.yaml:1" in ran.err) == (2, True)
    directory = RunDirectory(cli.directory / ".run")
    assert not directory.env.exists()
    assert not list(leftovers.processes(directory))
    assert cli("status").code == 3


def test_a_webhooks_file_that_cannot_be_used_starts_nothing(cli: Cli) -> None:
    cli.environment.delenv("REDIS_URL")
    cli.environment.setenv("WEBHOOKS_FILE", cli.write("hooks.yaml", "webhooks: {ops: {url: 'ftp://x.example'}}"))
    ran = cli("up", "--demo")
    assert (ran.code, ran.err) == (2, "WEBHOOKS_FILE hooks.yaml: ops.url: not an http or https address\n")
    assert not RunDirectory(cli.directory / ".run").env.exists()


def test_a_second_up_and_a_down_without_one(cli: Cli) -> None:
    assert "nothing was running" in cli("down").out
    directory = RunDirectory(cli.directory / ".run")
    directory.prepare()
    lock = RunLock(directory)
    assert lock.take()
    ran = cli("up", "--demo")
    lock.release()
    assert (ran.code, f"runs here already (process {os.getpid()})" in ran.err) == (2, True)


def test_the_supervised_process_of_a_name_comes_first_whatever_its_number(tmp_path: Path) -> None:
    """As after a worker's new child has got a lower number than the worker, or a killed worker has left a child."""
    directory = RunDirectory(tmp_path)
    marked = {**os.environ, leftovers.MARK: str(directory.path)}
    supervisor = f"{leftovers.NAME}=worker sh -c 'echo $$; exec sleep 99' & wait"  # it says so once it has its name
    with (
        subprocess.Popen(["sleep", "99"], env={**marked, leftovers.NAME: "worker"}) as left,
        subprocess.Popen(["sh", "-c", supervisor], env=marked, stdout=subprocess.PIPE, text=True) as parent,
    ):
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert [process.pid for process in leftovers.by_name(directory)["worker"]] == [child, left.pid]
        assert leftovers.end(directory, patience=2) == 3


def test_what_a_killed_run_has_left_is_found_and_ended(cli: Cli) -> None:
    directory = RunDirectory(cli.directory / ".run")
    directory.prepare()
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
    )
    marked = {**os.environ, leftovers.MARK: str(directory.path)}
    with subprocess.Popen([sys.executable, "-c", stubborn], env=marked, stdout=subprocess.PIPE) as orphan:
        assert orphan.stdout is not None
        orphan.stdout.readline()
        assert json.loads(cli("status", "--json").out)["left"] == 1
        assert leftovers.end(directory, patience=0.2) == 1
    assert not list(leftovers.processes(directory))
