"""A worker is asked to end in the middle of much work: what it held is due again at once, not when its leases end."""

from __future__ import annotations

import base64
import json
import logging
from collections import deque
from collections.abc import Iterator
from math import inf

import pytest

from registry import keys
from registry.ids import Pair
from tests.chaos.rig import SHARDS, Rig
from tests.chaos.started import started
from tests.chaos.test_burst import Burst
from tests.waiting import eventually
from worker.batch import Batch

log = logging.getLogger(__name__)

LEASE = 300.0
"""Seconds: whatever is left to its lease is not checked before the test has failed."""

PLACES = 100
"""Checks one worker makes side by side at the vendor, who takes a second for each."""

SOON_MS = 2_000
"""What is handed back is due again within the wait for a second look (`confirm_delay`, 1 s)."""


class SlowRig(Rig):
    """The running system with leases that outlast every test, and a vendor whose slow answers take a second."""

    def commands(self) -> dict[str, str]:
        commands = super().commands()
        return {**commands, "vendors": f"{commands['vendors']} --slow 1"}

    def end(self, role: str) -> None:
        """Ask a role to end, as a supervisor does, and wait until it has."""
        self.roles[role].terminate()
        assert self.roles[role].wait() == 0

    def asked_of(self, burst: Burst) -> int:
        """How often the vendor was asked for the pairs of a burst."""
        return sum(self.asked_for(burst.prefix).values())

    def left_to_lease(self, burst: Burst, since: int) -> list[Pair]:
        """The pairs that no claim after `since` has checked, and that wait for nothing but the end of a lease."""
        due, waiting = self.due(burst), self.waiting()
        return [pair for pair in burst.unchecked(since) if due[pair] > SOON_MS and pair not in waiting]

    def due(self, burst: Burst) -> dict[Pair, float]:
        """In how many milliseconds each pair of a burst is due; negative: since when."""
        with self.redis.client() as client:
            queues = [keys.due(keys.shard_of(pair.tenant, SHARDS), pair.connector) for pair in burst.pairs]
            scores = [client.zscore(queue, pair.tenant) for queue, pair in zip(queues, burst.pairs, strict=True)]
            now_ms = client.time()[0] * 1000
        return {
            pair: (inf if score is None else score) - now_ms for pair, score in zip(burst.pairs, scores, strict=True)
        }

    def waiting(self) -> set[Pair]:
        """The pairs of the batches that wait for a worker."""
        with self.redis.client(database=0) as client:
            messages = [json.loads(wire) for wire in client.lrange("checks", 0, -1)]
        batches = [Batch.read(json.loads(base64.b64decode(message["body"]))[0][0]) for message in messages]
        return {pair for batch in batches for pair in batch.pairs()}


@pytest.fixture(scope="module")
def running() -> Iterator[SlowRig]:
    with started(SlowRig, claim_lease=LEASE, host_concurrency=PLACES) as rig:
        yield rig


@pytest.fixture
def burst(rig: SlowRig) -> Iterator[Burst]:
    burst = Burst(rig, 1_000)
    yield burst
    burst.forget()


@pytest.mark.parametrize("rounds", [1, pytest.param(4, marks=[pytest.mark.long, pytest.mark.timeout(300)])])
def test_a_worker_that_ends_in_the_middle_of_much_work_hands_the_rest_back(
    rig: SlowRig, burst: Burst, rounds: int
) -> None:
    """One worker begins and is asked to end; the other one, which comes only then, does the rest. Then vice versa."""
    asked = rig.asked_for(burst.prefix)
    burst.configure()
    burst.checked(0)
    lost, roles = rig.fact("batches_lost"), deque(["checks-a", "checks-b"])
    rig.play("*", "linear", "slow")
    with rig.broken():
        rig.end(roles[1])
        for _ in range(rounds):
            hands_over(rig, burst, *roles)
            roles.rotate()
    rig.heals()
    assert rig.fact("batches_lost") == lost
    again = {tenant: many - asked.get(tenant, 0) for tenant, many in rig.asked_for(burst.prefix).items()}
    assert set(again.values()) == {1 + rounds}, "nobody was asked twice"
    rig.play("*", "linear", "healthy")


def hands_over(rig: SlowRig, burst: Burst, first: str, second: str) -> None:
    """One worker begins what is due at once, and is asked to end; the other one comes and does the rest."""
    begun, newest = rig.asked_of(burst) + PLACES, burst.newest()
    burst.make_due()
    eventually("it is in the middle of it", lambda: rig.asked_of(burst) > begun)
    rig.freeze("dispatch")
    held = rig.left_to_lease(burst, newest)
    assert held, "it holds nothing"
    rig.end(first)
    back = set(held) & set(burst.unchecked(newest))
    log.info("%s held %d pairs when it was asked to end, and has handed back %d of them", first, len(held), len(back))
    rig.thaw("dispatch")
    eventually("nothing is left to its lease", lambda: not rig.left_to_lease(burst, newest))
    rig.run(second)
    burst.checked(newest)
