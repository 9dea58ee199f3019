"""Transitions are kept until everybody who is registered to read them has done so.

The readers are the audit log and, where there are webhooks, `worker.events.gather`. Who watches without being
registered (`ConnectorRegistry.watch`) finds at least the last hour. The scripts that write transitions cut a stream at
`registry.keys.EVENTS_CAP` whoever has read it; a reader notices that by itself, and counts it as a loss.
"""

from __future__ import annotations

from typing import cast

from registry import keys
from registry.bootstrap import Parts
from worker.events import box


async def trim(parts: Parts) -> None:
    """Forget old transitions that every registered reader has read."""
    audited = cast("dict[bytes, bytes]", await parts.redis.hgetall(keys.AUDITED))
    gathered = cast("dict[bytes, bytes]", await parts.redis.hgetall(box.GATHERED))
    oldest = f"{parts.clock.now_ms() - keys.EVENTS_KEPT_MS}-0"
    async with parts.redis.pipeline(transaction=False) as pipe:
        for shard in range(parts.settings.shards):
            stream = keys.events(shard)
            read = [audited.get(str(shard).encode(), b"0").decode()]
            if parts.settings.webhooks_file is not None:
                read.append(gathered.get(stream.encode(), b"0").decode())
            # A reader finds out that nothing was lost by the last entry it has read: that one stays.
            pipe.xtrim(stream, minid=min([oldest, *read], key=order), approximate=True)
        await pipe.execute()


def order(position: str) -> tuple[int, int]:
    """Positions in a stream, comparable."""
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number or 0)
