"""From references to secrets and back: one resolver in front of the secret stores, each with its own scheme.

A reference is only opened for the pair it stands in: every backend keeps the tenants apart by name or, for ``enc://``,
by authenticated encryption. No secret ever appears in an error or a ``repr``.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from pydantic import SecretStr

from registry.connector import ConnectorConfig, SecretRef
from registry.errors import InvalidConfig, SecretUnavailable
from registry.ids import Pair

__all__ = ["LocalBackend", "SealingBackend", "SecretBackend", "SecretResolver"]

_Flight = tuple[asyncio.AbstractEventLoop, Pair, SecretRef]


class SecretBackend(Protocol):
    """Reads the references of one scheme (``env``, ``file``, ``gcp``, ``enc``)."""

    @property
    def scheme(self) -> str:
        """What stands before ``://``."""
        ...

    def admit(self, pair: Pair, reference: SecretRef) -> None:
        """Raise `SecretNotFound` if this reference can never be this tenant's. Looks at the name only."""
        ...

    async def read(self, pair: Pair, reference: SecretRef) -> SecretStr:
        """The secret behind an admitted reference. Raises `SecretNotFound` or `SecretUnavailable`."""
        ...

    async def aclose(self) -> None:
        """Give back connections and threads."""
        ...


@runtime_checkable
class LocalBackend(SecretBackend, Protocol):
    """A backend that opens references without waiting for anything, so that nothing it opens need be kept."""

    def open(self, pair: Pair, reference: SecretRef) -> SecretStr:
        """The same as `admit` and `read`, at once."""
        ...


class SealingBackend(SecretBackend, Protocol):
    """A backend that can also keep a secret it is given."""

    async def seal(self, pair: Pair, field: str, secret: SecretStr) -> SecretRef:
        """Keep `secret` for this pair and return its reference. Raises `SecretUnavailable`."""
        ...

    async def forget(self, tenant: str) -> None:
        """Delete everything that was sealed for a tenant. Raises `SecretUnavailable`."""
        ...


class SecretResolver:
    """Replaces references by secrets, and secrets by references.

    Resolved secrets are kept in memory for `ttl` seconds, for at most `max_pairs` pairs, the least recently used
    going first; concurrent reads of one reference are one read. Failures are not kept. While a store is away, a secret
    that is still kept goes on beyond its time.

    Args:
        backends: one for each scheme that configurations may use.
        sealing: keeps the clear secrets that `seal` finds; None refuses them.
        ttl: seconds.
        max_pairs: pairs whose secrets are kept.
        clock: monotonic seconds.
        on_read: told of every pair of which a secret was read from its store.
    """

    def __init__(
        self,
        backends: Iterable[SecretBackend],
        *,
        sealing: SealingBackend | None = None,
        ttl: float = 300.0,
        max_pairs: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
        on_read: Callable[[Pair], None] = lambda _: None,
    ) -> None:
        self._backends = {backend.scheme: backend for backend in backends}
        if sealing is not None:
            self._backends[sealing.scheme] = sealing
        self._local = {
            scheme: backend.open for scheme, backend in self._backends.items() if isinstance(backend, LocalBackend)
        }
        self._sealing = sealing
        self._ttl, self._max_pairs, self._clock, self._on_read = ttl, max_pairs, clock, on_read
        self._kept: OrderedDict[Pair, dict[SecretRef, tuple[SecretStr, float]]] = OrderedDict()
        self._flights: dict[_Flight, asyncio.Task[SecretStr]] = {}

    async def resolve(self, pair: Pair, config: ConnectorConfig) -> ConnectorConfig:
        """A copy of `config` whose references are replaced by what they name.

        Raises:
            SecretNotFound: a reference names nothing, or is not this tenant's.
            SecretUnavailable: the secret store did not answer, or is not configured here.
        """
        found: dict[str, SecretStr] = {}
        for field, value in config.secrets():
            if not isinstance(value, SecretRef):
                found[field] = value
            elif opened := self._local.get(value.partition("://")[0]):
                found[field] = opened(pair, value)
                self._on_read(pair)
            else:
                found[field] = await self._secret(pair, value)
        return config.with_secrets(found)

    async def seal(self, pair: Pair, config: ConnectorConfig) -> ConnectorConfig:
        """A copy of `config` whose clear secrets are kept by the sealing backend; it can be stored.

        Raises:
            InvalidConfig: there is a clear secret, and no sealing backend.
            SecretNotFound: a reference is not this tenant's; nothing was sealed then.
            SecretUnavailable: the secret store did not answer, or is not configured here.
        """
        clear: dict[str, SecretStr] = {}
        for field, value in config.secrets():
            if isinstance(value, SecretRef):
                self._backend(value).admit(pair, value)
            else:
                clear[field] = value
        if not clear:
            return config
        if self._sealing is None:
            raise InvalidConfig(
                f"{pair}: auth.{next(iter(clear))} is a clear secret and nothing here can seal it: "
                "set ENCRYPTION_KEYS, or give a reference (env://…, file://…, gcp://…)"
            )
        return config.with_secrets(
            {field: await self._sealing.seal(pair, field, secret) for field, secret in clear.items()}
        )

    async def forget(self, tenant: str) -> None:
        """Delete what was sealed for a tenant, wherever it is kept. Raises `SecretUnavailable`."""
        for pair in [pair for pair in self._kept if pair.tenant == tenant]:
            self.drop(pair)
        if self._sealing is not None:
            await self._sealing.forget(tenant)

    def drop(self, pair: Pair) -> None:
        """Forget the pair's secrets, also those being read just now: the next `resolve` reads them again."""
        self._kept.pop(pair, None)
        for flight in [flight for flight in self._flights if flight[1] == pair]:
            del self._flights[flight]

    def clear(self) -> None:
        """Forget every pair's secrets, also those being read just now."""
        self._kept.clear()
        self._flights.clear()

    async def aclose(self) -> None:
        """Forget every secret and close the backends."""
        self.clear()
        for backend in self._backends.values():
            await backend.aclose()

    async def _secret(self, pair: Pair, reference: SecretRef) -> SecretStr:
        kept = self._kept.get(pair, {}).get(reference)
        if kept and kept[1] > self._clock():
            self._kept.move_to_end(pair)
            return kept[0]
        loop = asyncio.get_running_loop()
        flight = (loop, pair, reference)
        task = self._flights.get(flight)
        if task is None:
            backend = self._backend(reference)
            backend.admit(pair, reference)
            task = self._flights[flight] = loop.create_task(backend.read(pair, reference))
            task.add_done_callback(lambda done: self._landed(flight, done))
        try:
            return await asyncio.shield(task)  # one caller's cancellation is not the others'
        except SecretUnavailable:
            if kept and self._kept.get(pair, {}).get(reference) is kept:
                return kept[0]
            raise

    def _landed(self, flight: _Flight, task: asyncio.Task[SecretStr]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if not failed:
            self._on_read(flight[1])
        if self._flights.get(flight) is not task:
            return  # dropped meanwhile: what was read may be the old secret
        del self._flights[flight]
        if not failed:
            self._keep(flight[1], flight[2], task.result())

    def _keep(self, pair: Pair, reference: SecretRef, secret: SecretStr) -> None:
        now = self._clock()
        valid = {ref: kept for ref, kept in self._kept.get(pair, {}).items() if kept[1] > now}
        self._kept[pair] = valid | {reference: (secret, now + self._ttl)}
        self._kept.move_to_end(pair)
        while len(self._kept) > self._max_pairs:
            self._kept.popitem(last=False)

    def _backend(self, reference: SecretRef) -> SecretBackend:
        scheme = reference.partition("://")[0]
        try:
            return self._backends[scheme]
        except KeyError:
            raise SecretUnavailable(f"no store for {scheme}:// secrets is configured here") from None
