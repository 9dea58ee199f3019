"""A batch: the claimed pairs of one connector that one task checks. Only ids travel in its message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NotRequired, TypedDict
from uuid import uuid4

from registry.ids import Pair
from registry.schedule import Claim, Held


class BatchMessage(TypedDict):
    """The JSON form of a batch: claims as [shard, fence, tenants], and when the lease of each ends (milliseconds)."""

    id: str
    connector: str
    claims: list[tuple[int, int, list[str]]]
    ends: NotRequired[list[int]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Claims of one connector, of any shards."""

    id: str
    connector: str
    claims: tuple[Claim, ...]

    def pairs(self) -> Iterator[Pair]:
        """The claimed pairs."""
        return (one.pair for one in self.held())

    def held(self) -> Iterator[Held]:
        """The claimed pairs, each as it is held."""
        name = self.connector
        return (Held(Pair(name, tenant), claim.ends_ms) for claim in self.claims for tenant in claim.tenants)

    @property
    def claimed_ms(self) -> int:
        """When its first claim was made, by Redis' clock, Unix milliseconds: a fence is a time in microseconds."""
        return min(claim.fence for claim in self.claims) // 1000

    def message(self) -> BatchMessage:
        """What is sent to a worker."""
        claims = [(claim.shard, claim.fence, list(claim.tenants)) for claim in self.claims]
        ends = [claim.ends_ms for claim in self.claims]
        return {"id": self.id, "connector": self.connector, "claims": claims, "ends": ends}

    @classmethod
    def read(cls, message: BatchMessage) -> Batch:
        """The inverse of `message`, also of one that says nothing of its leases."""
        name, rows = message["connector"], message["claims"]
        ends = message.get("ends") or [0] * len(rows)
        claims = [
            Claim(name, shard, fence, tuple(tenants), ends_ms=ends_ms)
            for (shard, fence, tenants), ends_ms in zip(rows, ends, strict=True)
        ]
        return cls(message["id"], name, tuple(claims))


def batched(claims: Iterable[Claim], size: int) -> list[Batch]:
    """Group claims by connector into batches of at most `size` pairs (a single claim may be larger)."""
    groups: dict[str, list[list[Claim]]] = {}
    for claim in claims:
        lists = groups.setdefault(claim.connector, [[]])
        if lists[-1] and sum(len(other.tenants) for other in lists[-1]) + len(claim.tenants) > size:
            lists.append([])
        lists[-1].append(claim)
    return [Batch(uuid4().hex, name, tuple(group)) for name, lists in groups.items() for group in lists]
