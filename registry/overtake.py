"""A store that was restored from an older copy: the revisions it gives are in use already, for what it has forgotten.

Schedule, verdicts and every process's own caches take nothing that is not newer. So what the store has is written once
more, beyond every revision in use: the store is the truth.
"""

from __future__ import annotations

import structlog

from registry.ids import Pair
from registry.schedule import Schedule
from registry.stores import StoredConfig, TenantConfigStore

log = structlog.get_logger(__name__)

ACTOR = "overtake"
"""Who writes, in the pair's history."""


async def overtake(pair: Pair, store: TenantConfigStore, schedule: Schedule) -> StoredConfig | None:
    """Write what the store has of the pair once more if the schedule has something newer; None if it has not.

    Whoever configures writes the store first, and here the store is read last: a store that is behind was set back.
    Who configures meanwhile is newer still and wins.

    Raises:
        NotConfigured: the store has nothing of it.
        ConflictError: somebody else has just configured it.
        InvalidConfig, StoreUnavailable
    """
    scheduled, newest = await schedule.newest(pair)
    stored = await store.get_config(pair)
    same = scheduled is None or scheduled.config == stored.config
    if newest < stored.revision or (newest == stored.revision and same):
        return None
    log.warning("store_set_back", pair=str(pair), revision=stored.revision, in_use=newest)
    return await store.set_config(pair, stored.config, actor=ACTOR, expected=stored.revision, beyond=newest)
