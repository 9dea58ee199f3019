"""What hangs delays only its own pairs: a host that some of a connector's pairs lead to, and a whole vendor.

All of it is judged while it hangs. A crowd of the same connector keeps the workers busy, so that a check process which
waited for what hangs would come too late to everybody else.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from registry import keys
from registry.health import Reason, Status
from registry.ids import Pair
from registry.record import Record, decode
from tests.chaos.rig import SHARDS, TIMEOUT, Rig
from tests.chaos.started import started
from tests.waiting import eventually

CROWD, HUNG, ROUNDS = 1_200, 60, 4
"""Pairs of the crowd, pairs on the host that hangs (nearly every batch has one of them), and rounds of checks."""


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    """A system whose workers, if they waited for what hangs, would check 50 pairs a second."""
    with started(Rig, batch_size=100, batch_patience=TIMEOUT) as rig:
        rig.configure({pair: config(pair, rig.vendors_url + "/gitlab") for pair in crowd()})
        eventually("each of the crowd is checked", lambda: all(records(rig, crowd())))
        yield rig


@pytest.fixture
def hanging_url() -> Iterator[str]:
    """A host that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def crowd() -> list[Pair]:
    return [Pair("gitlab", f"crowd-{number}") for number in range(CROWD)]


def hung() -> list[Pair]:
    return [Pair("gitlab", f"hung-{number}") for number in range(HUNG)]


def config(pair: Pair, url: str) -> dict[str, object]:
    return {"auth": {"type": "bearer", "token": f"glpat-demo-{pair.tenant}"}, "base_url": url}


def records(rig: Rig, pairs: list[Pair]) -> list[Record | None]:
    """What is kept of each; None before its first check."""
    with rig.redis.client() as client:
        wires = client.mget([keys.verdict(keys.shard_of(pair.tenant, SHARDS), pair) for pair in pairs])
    return [decode(wire) if wire else None for wire in wires]


def everybody_is_checked(rig: Rig, times: int) -> None:
    for _ in range(times):
        rig.watch.expect_new()
        eventually("everybody is checked", lambda: not rig.watch.unhealed())
    rig.demand()


def test_a_host_that_hangs_delays_no_other_pair_of_its_connector(rig: Rig, hanging_url: str) -> None:
    rig.configure({pair: config(pair, hanging_url) for pair in hung()})

    def timed_out() -> bool:
        return all(kept and kept.verdict and kept.verdict.reason is Reason.TIMEOUT for kept in records(rig, hung()))

    eventually("each pair of the host has timed out", timed_out)
    everybody_is_checked(rig, ROUNDS)
    assert timed_out()
    rig.configure({pair: config(pair, rig.vendors_url + "/gitlab") for pair in hung()})
    rig.heals()


def test_a_vendor_that_hangs_delays_no_other_vendors_pairs(rig: Rig) -> None:
    own = [pair for pair in rig.pairs if pair.connector == "gitlab"]

    def right() -> bool:
        return all(kept and kept.status is Status.HEALTHY for kept in records(rig, crowd() + own))

    with rig.watch.leaving_out(*own):
        rig.play("*", "gitlab", "hanging")
        released = rig.fact("released")
        eventually("more hang than there are places", lambda: rig.fact("released") > released)
        everybody_is_checked(rig, ROUNDS)
        assert not right()
        rig.play("*", "gitlab", "healthy")
        eventually("each is right again", right)
    rig.heals()
