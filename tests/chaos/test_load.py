"""Poison, endless answers, full disks, and processes that come and go while everything is at work."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from registry import keys
from registry.health import Reason
from registry.ids import Pair
from tests.chaos.rig import SHARDS, TENANTS, Rig
from tests.waiting import eventually
from worker.demo.tenants import demo_tenants

POISON = {
    "not even a revision": b"poison",
    "not JSON": b"1\n{poison",
    "another layout": b'1\n{"auth": {"type": "martian"}}',
}


RARER = [pytest.param(name, marks=pytest.mark.long) for name in ("not JSON", "another layout")]


class Endless(BaseHTTPRequestHandler):
    """A vendor whose answer never ends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b'{"": [' * 10_000)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endless_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def usual(rig: Rig, pair: Pair) -> dict[str, object]:
    """The pair's configuration as the demo has it."""
    return demo_tenants(TENANTS, rig.vendors_url)["tenants"][pair.tenant][pair.connector]


def restore(rig: Rig, pair: Pair) -> None:
    """A new revision of the pair's own configuration."""
    rig.configure({pair: {**usual(rig, pair), "label": "whole"}})


def test_an_answer_without_end_hurts_nobody_else(rig: Rig, endless_url: str) -> None:
    pair = Pair("gitlab", "acme-02")
    rig.expect(pair, Reason.BAD_RESPONSE)
    rig.configure({pair: {**usual(rig, pair), "base_url": endless_url}})
    rig.settled(pair, Reason.BAD_RESPONSE)
    rig.watch.calm()
    rig.heals()
    rig.expect(pair, Reason.OK)
    restore(rig, pair)
    rig.settled(pair, Reason.OK)
    rig.demand()


@pytest.mark.parametrize("poison", ["not even a revision", *RARER])
def test_a_configuration_that_cannot_be_read_hurts_nobody_else(rig: Rig, poison: str) -> None:
    pair = Pair("slack", "acme-03")
    shard = keys.shard_of(pair.tenant, SHARDS)
    with rig.redis.client() as client, rig.watch.leaving_out(pair):
        client.hset(keys.configs(shard, pair.connector), pair.tenant, POISON[poison])
        rig.watch.calm()
        rig.heals()
    restore(rig, pair)
    rig.watch.calm()
    rig.heals()


@pytest.mark.long
def test_a_document_that_cannot_be_read_hurts_nobody(rig: Rig) -> None:
    """Its pair goes on with what the schedule has; a new configuration replaces it."""
    pair = Pair("linear", "acme-04")
    with sqlite3.connect(rig.direct.sqlite_path) as database:
        database.execute("UPDATE changes SET written = written + 1")
        database.execute(
            "UPDATE configs SET document = '{\"auth\": 7}', revision = revision + 1,"
            " written = (SELECT written FROM changes) WHERE tenant = ? AND connector = ?",
            (pair.tenant, pair.connector),
        )
    database.close()
    eventually("it is told in the log", lambda: "broken_configuration" in rig.log("publish").read_text())
    rig.watch.calm()
    rig.heals()
    restore(rig, pair)
    rig.watch.calm()
    rig.heals()


def test_a_stop_under_load_loses_no_claim(rig: Rig) -> None:
    hanging = [pair for pair in rig.pairs if pair.connector == "linear"]
    for pair in hanging:
        rig.expect(pair, Reason.TIMEOUT)  # a worker may take so long to end that two checks in a row got no answer
    with rig.broken():
        asked = requests(rig)
        rig.play("*", "linear", "hanging")
        eventually("checks hang", lambda: requests(rig) > asked + 3)
        lost = rig.fact("batches_lost")
        rig.roles["checks-a"].terminate()
        assert rig.roles["checks-a"].wait() == 0
        rig.play("*", "linear", "healthy")
        rig.run("checks-a")
    for pair in hanging:
        rig.settled(pair, Reason.OK)
    rig.heals()
    assert rig.fact("batches_lost") == lost


def requests(rig: Rig) -> int:
    return (rig.asked() or {}).get("linear", 0)


@pytest.mark.long
def test_a_rolling_restart_is_noticed_by_nobody(rig: Rig) -> None:
    """Each process is replaced by a new one, which works before the old one ends."""
    rig.watch.trouble()
    rig.watch.calm()
    for role in ("checks-a", "checks-b", "dispatch", "publish", "beat"):
        rig.replace(role)
        rig.watch.expect_new()
        eventually("everybody is checked", lambda: not rig.watch.unhealed())
    rig.demand()
    assert set(rig.watch.seen) <= {"healthy/ok", "degraded/slow"}


@pytest.mark.long
def test_a_full_disk_stops_no_check(rig: Rig) -> None:
    with rig.broken():
        rig.fill_disk("publish", full=True)
        rig.fill_disk("checks-a", full=True)
        rig.watch.expect_new()
        eventually("everybody is checked", lambda: not rig.watch.unhealed())
        rig.fill_disk("publish", full=False)
        rig.fill_disk("checks-a", full=False)
    rig.heals()
