"""The connection to Firestore, shared by what is kept there: bounded retries, one client a loop, typed failures."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying, retry_if_exception, stop_before_delay, wait_random_exponential

from registry.clean import clean
from registry.errors import StoreUnavailable
from registry.extras import lacking

if TYPE_CHECKING:
    from google.cloud.firestore_v1 import AsyncClient, AsyncDocumentReference, AsyncQuery, DocumentSnapshot
    from google.cloud.firestore_v1.async_batch import AsyncWriteBatch
    from google.cloud.firestore_v1.types import WriteResult

    Snapshot = DocumentSnapshot[AsyncDocumentReference]

T = TypeVar("T")
Call = Callable[["AsyncClient", float], Awaitable[T]]


class FirestoreClient:
    """Calls Firestore, or its emulator where ``FIRESTORE_EMULATOR_HOST`` is set.

    Args:
        project: Google Cloud project; None takes the environment's.
        database: the database's name.
        budget: seconds for one call with its retries before `StoreUnavailable`.

    Raises:
        StoreUnavailable: the client is not installed.
    """

    def __init__(self, project: str | None, *, database: str, budget: float) -> None:
        if install := lacking("google.cloud.firestore_v1", "gcp"):
            raise StoreUnavailable(f"the Firestore store needs another package: {install}")
        self._project, self._database, self._budget = project, database, budget
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncClient] = weakref.WeakKeyDictionary()
        self._closing: set[asyncio.Task[None]] = set()

    async def select(self, query: Callable[[AsyncClient], AsyncQuery]) -> list[Snapshot]:
        """What a query finds. Raises `StoreUnavailable`."""
        return await self.call(lambda client, timeout: query(client).get(retry=None, timeout=timeout))

    async def aclose(self) -> None:
        """Close the running loop's client."""
        loop = asyncio.get_running_loop()
        self._retire(self._clients.get(loop))
        await asyncio.gather(*(closing for closing in self._closing if closing.get_loop() is loop))

    async def call(self, call: Call[T]) -> T:
        """Run `call` with a client and the seconds it has, again while that may help, within the budget."""
        from google.api_core.exceptions import GoogleAPIError, ServiceUnavailable
        from google.auth.exceptions import GoogleAuthError

        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._budget
        retrying = AsyncRetrying(
            retry=retry_if_exception(_passing),
            stop=stop_before_delay(self._budget),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            reraise=True,
        )

        async def attempt() -> T:
            client = self._client()
            try:
                return await call(client, max(0.1, deadline - loop.time()))
            except ServiceUnavailable:
                self._retire(client)
                raise

        try:
            return await retrying(attempt)
        except (GoogleAPIError, GoogleAuthError) as error:
            message = clean(f"{type(error).__name__} {error}")
            raise StoreUnavailable(f"the configuration store Firestore cannot be used: {message}") from None

    def _client(self) -> AsyncClient:
        """The running loop's client: gRPC's channels belong to the loop that made them."""
        from google.cloud.firestore_v1 import AsyncClient

        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            try:
                self._clients[loop] = AsyncClient(project=self._project, database=self._database)
            except OSError as error:  # no project is named anywhere
                raise StoreUnavailable(f"the configuration store Firestore cannot be used: {error}") from None
        return self._clients[loop]

    def _retire(self, client: AsyncClient | None) -> None:
        """Close a client when its running calls have ended, and let the next call make another.

        A channel that lost its server waits up to two minutes before it connects again.
        """
        loop = asyncio.get_running_loop()
        if client is None or self._clients.get(loop) is not client:
            return
        del self._clients[loop]
        channel = client._firestore_api.transport.grpc_channel  # noqa: SLF001 - AsyncClient.close() leaves it open
        closing = loop.create_task(channel.close(grace=self._budget))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def commit(batch: AsyncWriteBatch, timeout: float) -> list[WriteResult]:
    """Write a batch, unless what it was made from has changed: then `Aborted`, which `FirestoreClient.call` repeats."""
    from google.api_core import exceptions

    try:
        return await batch.commit(retry=None, timeout=timeout)
    except (exceptions.FailedPrecondition, exceptions.Conflict, exceptions.NotFound) as error:
        raise exceptions.Aborted("changed meanwhile") from error  # type: ignore[no-untyped-call]  # google-api-core's


def _passing(error: BaseException) -> bool:
    """Whether trying again may help: the server is away, overloaded, or somebody else wrote first."""
    from google.api_core.exceptions import Aborted, Cancelled, ResourceExhausted, ServerError

    return isinstance(error, ServerError | Aborted | Cancelled | ResourceExhausted)
