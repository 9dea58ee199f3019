"""A store that has lost what it held: its silence is not everybody's deletion.

Every deletion of ours leaves a tombstone. A few pairs that vanish without one were taken out by another tool; where
more is gone than is left, the store itself was lost (an emptied database, or another one by mistake).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from registry.errors import InvalidConfig, NotConfigured
from registry.ids import Pair
from registry.stores import TenantConfigStore

SAMPLE = 20
"""Missing pairs that are asked for one by one: they may have been configured while everything was compared."""

LOOK_AGAIN = 300.0
"""Seconds after which a store that was lost is compared again: it may have been restored."""


async def is_gone(pair: Pair, store: TenantConfigStore) -> bool:
    """Has the store no configuration of the pair at this moment? Raises `StoreUnavailable`."""
    try:
        await store.get_config(pair)
    except NotConfigured:
        return True
    except InvalidConfig:
        pass
    return False


async def is_lost(store: TenantConfigStore, missing: Sequence[Pair], left: int, *, before: bool) -> bool:
    """Is the store to blame that so many scheduled pairs are `missing` there, beside those that are `left`?

    Args:
        before: it was to blame at the last comparison: then it is until nobody is missing, for it may be in the middle
            of being restored.

    Raises:
        StoreUnavailable
    """
    if not before and len(missing) <= left:
        return False
    sample = random.sample(missing, min(SAMPLE, len(missing)))
    gone = sum([await is_gone(pair, store) for pair in sample])
    return gone * 2 > len(sample) or (before and gone > 0)


async def is_kept(store: TenantConfigStore, missing: Sequence[Pair]) -> bool:
    """Has the store a usable configuration of a pair that was entered into the schedule and is `missing` there?

    Then it was the schedule that lost it. Raises `StoreUnavailable`.
    """
    for pair in random.sample(missing, min(SAMPLE, len(missing))):
        try:
            await store.get_config(pair)
        except (NotConfigured, InvalidConfig):
            continue
        return True
    return False
