"""What checks add to the counters and tallies, told by numbers: only the script knows whose result is written.

The checks of a group share few names. Each check says by which of them it is counted, and the script adds up those of
the checks that it writes, so that counting costs a few commands a group whatever its size.
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct

from registry.health import Status, Verdict
from registry.ids import Pair
from registry.tally import Ending, slot

LATENCY_BUCKETS_MS = (25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
"""Upper bounds of the duration histogram."""

_COLUMNS = (*map(str, LATENCY_BUCKETS_MS), "inf")
_pack = Struct(">BBBHBI").pack
_MOST_MS = 2**32 - 1


class Counting:
    """The names that a group of one connector's checks is counted by.

    `counters` are the checks by reason, the transitions by the status they led to, durations by bucket and their sum in
    milliseconds, which is the first; `tallies` are the endings by endpoint. Both map a name to its number, from one on.
    """

    def __init__(self, connector: str) -> None:
        self.counters: dict[str, int] = {f"sum_ms|{connector}": 1}
        self.tallies: dict[str, int] = {}
        self._connector = connector

    def marks(self, pair: Pair, verdict: Verdict, turned: Status | None, endpoint: str, ending: Ending | None) -> bytes:
        """What one check counts for, as the script reads it.

        Args:
            turned: the status that a transition led to, if there was one.
            ending: how it ended, as far as incidents are concerned.
        """
        counters, connector = self.counters, self._connector
        bucket = _COLUMNS[bisect_left(LATENCY_BUCKETS_MS, verdict.latency_ms)]
        return _pack(
            counters.setdefault(f"checks|{connector}|{verdict.reason}", len(counters) + 1),
            counters.setdefault(f"bucket|{connector}|{bucket}", len(counters) + 1),
            counters.setdefault(f"turns|{connector}|{turned}", len(counters) + 1) if turned else 0,
            self.tallies.setdefault(f"{endpoint}|{ending}", len(self.tallies) + 1) if ending else 0,
            int(slot(pair.tenant)) if ending else 0,
            min(round(verdict.latency_ms), _MOST_MS),
        )
