"""The configuration store dies, hangs, and comes back empty: Google's emulator keeps nothing when it ends.

Checks go on with what the schedule has. Whoever configures is told that the store is away; nobody is told to be not
configured, whatever the store has forgotten.
"""

from __future__ import annotations

import logging
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.cloud.firestore_v1 import Client

from registry import keys
from registry.errors import StoreUnavailable
from registry.health import Reason
from registry.ids import Pair
from tests.chaos.faults import redis_flushed, until_read
from tests.chaos.rig import TENANTS, WAIT, Rig
from tests.fixtures_firestore import FirestoreEmulator, free_port, required_jar
from tests.fixtures_redis import RedisServer, redis_binary
from tests.waiting import eventually
from worker.demo.tenants import demo_tenants

log = logging.getLogger(__name__)

LOST = "has lost pairs that nobody deleted (30)"


@dataclass
class StoreRig(Rig):
    """The running system with its configurations in Firestore, which is the role `firestore`."""

    emulator: FirestoreEmulator | None = None

    def commands(self) -> dict[str, str]:
        assert self.emulator is not None
        return {"firestore": shlex.join(self.emulator.command), **super().commands()}

    def run(self, role: str, **environment: str) -> None:
        super().run(role, **environment)
        if role == "firestore" and self.emulator is not None:
            eventually("the emulator answers", self.emulator.answers)
            client = Client("warming-up")  # a cold emulator's first write may take longer than the store waits
            client.document("ping/ping").set({}, timeout=WAIT)
            client.close()  # type: ignore[no-untyped-call]  # Google's client leaves it untyped

    def everything(self) -> dict[Pair, dict[str, object]]:
        """Every tenant's configurations, as they are at the beginning."""
        tenants = demo_tenants(TENANTS, self.vendors_url)["tenants"]
        return {Pair(name, tenant): config for tenant, of in tenants.items() for name, config in of.items()}

    def goes_on(self) -> None:
        """Everybody is checked anew, whatever is broken."""
        self.watch.expect_new()
        eventually("everybody is checked", lambda: not self.watch.unhealed())

    def compares(self) -> bool:
        """Is everything being compared now?"""
        with self.redis.client() as client:
            return bool(client.hexists(keys.CURSOR, "walk"))

    def reconciles(self) -> None:
        """A round of the reconciler succeeds."""
        done = self.fact("reconcile_ms")
        eventually("a round of the reconciler", lambda: self.fact("reconcile_ms") > done)


@pytest.fixture(scope="module")
def running() -> Iterator[StoreRig]:
    with tempfile.TemporaryDirectory(prefix="cr-chaos-") as directory, pytest.MonkeyPatch.context() as patch:
        emulator = FirestoreEmulator(required_jar(), Path(directory) / "firestore.log", free_port())
        patch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
        rig = StoreRig(
            Path(directory),
            RedisServer(redis_binary(), Path(directory)),
            settings_changed={"config_store": "firestore", "firestore_project": "chaos", "reconcile_full_every": 1},
            emulator=emulator,
        )
        try:
            rig.start()
            yield rig
        finally:
            rig.close()


def test_a_store_that_is_killed_and_comes_back_empty_loses_nobody(rig: StoreRig) -> None:
    with rig.broken():
        rig.kill("firestore")
        rig.goes_on()
        rig.run("firestore")
        eventually("its loss is told", lambda: LOST in rig.log("publish").read_text())
    took = rig.heals()
    log.info("the store is killed and comes back empty: readers saw %s; healed in %.1f s", dict(rig.watch.seen), took)
    assert set(rig.watch.seen) <= {"healthy/ok", "degraded/slow"}
    rig.configure(rig.everything())
    rig.reconciles()
    rig.demand()


@pytest.mark.long
@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_whoever_configures_is_told_that_the_store_is_away(rig: StoreRig, fault: str) -> None:
    pair = Pair("slack", "acme-02")
    with rig.broken():
        if fault == "killed":
            rig.kill("firestore")
        else:
            rig.freeze("firestore")
        with pytest.raises(StoreUnavailable):
            rig.configure({pair: rig.everything()[pair]})
        rig.goes_on()
        if fault == "killed":
            rig.run("firestore")
        else:
            rig.thaw("firestore")
    took = rig.heals()
    log.info("the store is %s: readers saw %s; healed in %.1f s", fault, dict(rig.watch.seen), took)
    assert set(rig.watch.seen) <= {"healthy/ok", "degraded/slow"}
    rig.configure(rig.everything())
    rig.reconciles()
    rig.expect(pair, Reason.CREDENTIAL_REJECTED)
    rig.configure({pair: {**rig.everything()[pair], "auth": {"type": "bearer", "token": "xoxb-of-nobody"}}})
    rig.settled(pair, Reason.CREDENTIAL_REJECTED)
    rig.expect(pair, Reason.OK)
    rig.configure({pair: rig.everything()[pair]})
    rig.settled(pair, Reason.OK)
    rig.demand()


@pytest.mark.long
def test_redis_loses_its_data_while_the_store_hangs(rig: StoreRig) -> None:
    """Nobody knows who is configured: readers are told so, and everybody is back as soon as the store is."""
    with rig.broken():
        rig.freeze("firestore")
        with redis_flushed(rig):
            until_read(rig, "unknown/not_checked")
        rig.thaw("firestore")
    took = rig.heals()
    log.info("redis is flushed while the store hangs: readers saw %s; healed in %.1f s", dict(rig.watch.seen), took)


@pytest.mark.long
def test_redis_loses_its_data_while_everything_is_compared(rig: StoreRig) -> None:
    """What was entered before is gone, so that comparison is in vain: nobody is told to be not configured by it."""
    with rig.broken():
        rig.proxy.delay(0.1)
        try:
            for _ in range(5):
                rig.reconciles()
                eventually("everything is compared", rig.compares)
                with redis_flushed(rig):
                    rig.watch.expect_new()
        finally:
            rig.proxy.delay(0)
    took = rig.heals()
    log.info("redis is flushed in comparisons: readers saw %s; healed in %.1f s", dict(rig.watch.seen), took)
    assert "comparison_in_vain" in rig.log("publish").read_text()
    assert "unknown/not_configured" not in rig.watch.seen
