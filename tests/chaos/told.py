"""Two pairs that turn, and real messages about them over real HTTP, of which a test drops, adds or misleads one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import cast

from registry.bootstrap import Parts
from registry.connector import ConnectorConfig
from registry.health import REASONS, Reason, Verdict
from registry.ids import Pair
from registry.recording import Outcome
from tests.chaos.invariants import Invariant
from tests.chaos.receiver import Receiver
from tests.chaos.watch import Watch
from worker.events import box
from worker.events.deliver import Deliverer
from worker.events.gather import Gatherer
from worker.events.message import Message, MessageType

PAIR, STRANGER = Pair("slack", "acme-01"), Pair("linear", "acme-02")
CONFIG = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://TOKEN"}})


@dataclass
class Told:
    """Two pairs that are checked, and told of, as the test says."""

    parts: Parts
    receiver: Receiver
    gatherer: Gatherer
    deliverer: Deliverer
    watch: Watch | None = None
    turned: dict[Pair, list[tuple[int, tuple[str, str]]]] = field(default_factory=dict)

    def watch_for(self, invariant: Invariant) -> None:
        self.watch = Watch(
            self.parts.settings.redis_url,
            [PAIR, STRANGER],
            [invariant],
            shards=self.parts.settings.shards,
            messages=self.receiver.messages,
        )
        self.watch.calm()
        assert self.looks() == []

    async def turns(self, *reasons: Reason, pair: Pair = PAIR) -> None:
        """One check for each reason, as a worker would record it."""
        for reason in reasons:
            task = await self.parts.schedule.task(pair)
            assert task is not None
            verdict = Verdict(reason, REASONS[reason].fault, self.parts.clock.now_ms())
            written = await self.parts.recorder.record([Outcome(task, verdict, f"{pair.connector}|x.example")])
            turn = (written[pair].since_ms, (written[pair].status.value, written[pair].reason.value))
            self.turned.setdefault(pair, []).append(turn)

    async def gathers(self) -> None:
        """Put what is worth telling into the outbox; what waits is looked at too, as a second later."""
        for pair in cast("list[bytes]", await self.parts.redis.zrange(box.OPEN, 0, -1)):
            await self.parts.redis.zadd(box.OPEN, {pair: 0})
        await self.gatherer.gather()

    async def loses(self) -> None:
        """The newest message in the outbox, as if it had never been put there."""
        newest = cast("list[tuple[bytes, object]]", await self.parts.redis.xrevrange(box.OUTBOX, count=1))
        await self.parts.redis.xdel(box.OUTBOX, newest[0][0])

    async def delivers(self) -> None:
        """Send what is in the outbox."""
        await self.deliverer.tick()
        await self.deliverer.drain()

    async def tells(self, *reasons: Reason) -> None:
        """One check for each reason, and everybody is told of it."""
        for reason in reasons:
            await self.turns(reason)
            await self.gathers()
            await self.delivers()

    async def send(self, address: str, *, pair: Pair = PAIR, turn: int = -1, text: str = "news") -> None:
        """One of the pair's turns in a message that the system never meant to send; its id is made of `text`."""
        at_ms, (status, reason) = self.turned[pair][turn]
        data = {"connector": pair.connector, "tenant": pair.tenant, "to": {"status": status, "reason": reason}}
        message = Message(f"made up: {text}", MessageType.TRANSITION, at_ms, text, data)
        assert (await self.deliverer.send_now(address, message)).delivered

    def looks(self) -> list[str]:
        """What one look says."""
        assert self.watch is not None
        assert self.watch.look() is not None
        return self.watch.taken()

    def until_told(self) -> list[str]:
        deadline = time.monotonic() + 10
        while not (told := self.looks()):
            assert time.monotonic() < deadline, "nothing is told"
        return told
