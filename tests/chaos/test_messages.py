"""Whatever breaks while a pair turns: whoever is to be told of it is told, in order, and nobody else is.

`EveryPromisedMessageArrives` and `NoMessageIsAstray` judge that in every test of this directory; here something turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from registry.health import Reason
from registry.ids import Pair
from tests.chaos import faults
from tests.chaos.faults import Fault
from tests.chaos.rig import Rig
from tests.waiting import eventually

AT_ONCE, BEFORE, AMID = Pair("github", "acme-01"), Pair("linear", "acme-01"), Pair("linear", "acme-02")
"""The first is told as soon as it turns; the others only when a second check has confirmed it."""

TURNS = {
    AT_ONCE: ("expiring", Reason.CREDENTIAL_EXPIRING),
    BEFORE: ("revoked", Reason.CREDENTIAL_REJECTED),
    AMID: ("revoked", Reason.CREDENTIAL_REJECTED),
}


def teller(rig: Rig) -> psutil.Process:
    """The process that waits for the receiver's answer."""
    port = rig.receiver.waiting[0]
    return next(
        child
        for child in rig.children("publish")
        if any(port == line.laddr.port for line in child.net_connections("tcp"))
    )


@contextmanager
def teller_killed(rig: Rig) -> Iterator[None]:
    """It had sent, and not noted it: whoever goes on has to send again."""
    teller(rig).kill()
    yield


@contextmanager
def teller_frozen(rig: Rig) -> Iterator[None]:
    """Until somebody else has told what it was about to tell."""
    frozen, before = teller(rig), len(rig.receiver.messages)
    frozen.suspend()
    yield
    eventually("somebody else tells", lambda: len(rig.receiver.messages) > before)
    frozen.resume()


SHORT: dict[str, Fault] = {
    "the teller is killed": teller_killed,
    "redis is killed": faults.redis_killed,
    "a machine of checks is killed": faults.machine_killed("checks-a"),
}
LONG: dict[str, Fault] = {
    "the teller is frozen": teller_frozen,
    "the publisher is killed": faults.restarted("publish"),
    "the publisher is frozen": faults.frozen("publish", until=None),
    "all machines of checks are frozen": faults.frozen("checks-a", "checks-b"),
    "redis is frozen": faults.redis_frozen,
    "connections are cut": faults.line_cut,
}


@pytest.mark.parametrize("name", SHORT)
def test_it_is_told(rig: Rig, name: str) -> None:
    is_told(rig, SHORT[name])


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_it_is_told_after_the_rarer(rig: Rig, name: str) -> None:
    is_told(rig, LONG[name])


def is_told(rig: Rig, fault: Fault) -> None:
    """News are on their way when the fault begins; others turn just before, and meanwhile. Then all are well again."""
    for pair, (_, reason) in TURNS.items():
        rig.expect(pair, reason)
    with rig.broken(), ExitStack() as broken:
        with rig.receiver.holding():
            play(rig, AT_ONCE)
            eventually("news are on their way", lambda: rig.receiver.waiting)
            play(rig, BEFORE)
            broken.enter_context(fault(rig))
        play(rig, AMID)
    for pair, (_, reason) in TURNS.items():
        rig.settled(pair, reason)
        rig.told(pair, reason)
    for pair in TURNS:
        rig.expect(pair, Reason.OK)
        rig.play(pair.tenant, pair.connector, "healthy")
    for pair in TURNS:
        rig.settled(pair, Reason.OK)
        rig.told(pair, Reason.OK)
    rig.demand()


def play(rig: Rig, pair: Pair) -> None:
    rig.play(pair.tenant, pair.connector, TURNS[pair][0])
