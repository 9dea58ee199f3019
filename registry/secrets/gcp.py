"""``gcp://projects/P/secrets/S/versions/V``: secrets in Google Secret Manager. The only file that imports its client.

One project holds every tenant's secrets; a secret's name begins with the tenant it belongs to.
https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr
from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

from registry.clean import clean
from registry.connector import SecretRef
from registry.errors import InvalidConfig, SecretNotFound, SecretUnavailable
from registry.extras import lacking
from registry.ids import Pair, encoded

if TYPE_CHECKING:
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient

T = TypeVar("T")

MAX_NAME = 255
"""Characters of a secret's name in Secret Manager."""

_REFERENCE = re.compile(r"gcp://(projects/([^/\s]+)/secrets/([A-Za-z0-9_-]+)/versions/[A-Za-z0-9_-]+)")


class SecretManagerSecrets:
    """Reads and seals secrets named ``<prefix><tenant>--<rest>`` of one project.

    Its HTTP client blocks, so each call runs in a thread of the running loop.

    Args:
        project: the project's id, as references name it.
        prefix: how the names of all our secrets begin.
        endpoint: another address than Google's, called without credentials (an emulator).
        budget: seconds for one call with its retries.

    Raises:
        SecretUnavailable: the client is not installed.
    """

    scheme = "gcp"

    def __init__(self, project: str, *, prefix: str, endpoint: str | None = None, budget: float = 5.0) -> None:
        if install := lacking("google.cloud.secretmanager_v1", "gcp"):
            raise SecretUnavailable(f"gcp:// secrets need another package: {install}")
        self._project, self._prefix, self._endpoint, self._budget = project, prefix, endpoint, budget
        self._client: SecretManagerServiceClient | None = None
        self._owner = 0

    def admit(self, pair: Pair, reference: SecretRef) -> None:
        """Raise `SecretNotFound` unless the project is ours and the secret's name is this tenant's."""
        self._name(pair, reference)

    async def read(self, pair: Pair, reference: SecretRef) -> SecretStr:
        """The version's payload. Raises `SecretNotFound` for one that is missing, disabled or destroyed."""
        from google.api_core import exceptions

        name = self._name(pair, reference)
        try:
            answer = await self._call(
                pair, lambda client, timeout: client.access_secret_version(name=name, retry=None, timeout=timeout)
            )
            return SecretStr(answer.payload.data.decode())
        except exceptions.NotFound:
            raise SecretNotFound(f"{pair}: {reference} does not exist: create it or correct the reference") from None
        except exceptions.BadRequest:
            raise SecretNotFound(f"{pair}: {reference} is disabled or destroyed: name another version") from None
        except UnicodeDecodeError:
            raise SecretNotFound(f"{pair}: {reference} is not text in UTF-8") from None

    async def seal(self, pair: Pair, field: str, secret: SecretStr) -> SecretRef:
        """Add `secret` as a new version of the pair's own secret. Raises `SecretUnavailable`."""
        name = f"{self._namespace(pair)}{encoded(pair.connector)}--{field}"
        if len(name) > MAX_NAME:
            raise InvalidConfig(f"{pair}: the ids are too long for Secret Manager: {name[:40]}… passes {MAX_NAME}")
        answer = await self._call(pair, lambda client, timeout: self._add(client, name, secret, timeout))
        version = answer.rpartition("/")[2]  # the rest of the answer names the project by number
        return SecretRef(f"gcp://projects/{self._project}/secrets/{name}/versions/{version}")

    async def forget(self, tenant: str) -> None:
        """Delete the tenant's secrets that `seal` has made, all versions. Raises `SecretUnavailable`."""
        pair = Pair("*", tenant)
        await self._call(pair, lambda client, timeout: self._delete(client, self._namespace(pair), timeout))

    async def aclose(self) -> None:
        """Close the connections; the next use opens them again."""
        if self._client is not None and self._owner == os.getpid():
            self._client.transport.close()  # type: ignore[no-untyped-call]  # the client has no annotations here
        self._client = None

    def _add(self, client: SecretManagerServiceClient, name: str, secret: SecretStr, timeout: float) -> str:
        from google.api_core import exceptions

        parent, payload = f"projects/{self._project}", secret.get_secret_value().encode()
        request = {"parent": parent, "secret_id": name, "secret": {"replication": {"automatic": {}}}}
        with suppress(exceptions.Conflict):  # the pair had a secret before: this one becomes its next version
            client.create_secret(request=request, retry=None, timeout=timeout)
        request = {"parent": f"{parent}/secrets/{name}", "payload": {"data": payload}}
        return client.add_secret_version(request=request, retry=None, timeout=timeout).name

    def _delete(self, client: SecretManagerServiceClient, namespace: str, timeout: float) -> None:
        from google.api_core import exceptions

        sealed = re.compile(rf"{re.escape(namespace)}[A-Za-z0-9_]+--[a-z_]+")  # an operator's own are named otherwise
        request = {"parent": f"projects/{self._project}", "filter": f"name:{namespace}"}
        for secret in client.list_secrets(request=request, retry=None, timeout=timeout):
            if sealed.fullmatch(secret.name.rpartition("/")[2]):
                with suppress(exceptions.NotFound):  # another attempt has deleted it
                    client.delete_secret(request={"name": secret.name}, retry=None, timeout=timeout)

    async def _call(self, pair: Pair, call: Callable[[SecretManagerServiceClient, float], T]) -> T:
        from google.api_core import exceptions

        try:
            return await asyncio.to_thread(self._retried, call)
        except (exceptions.NotFound, exceptions.BadRequest):
            raise
        except _failures() as error:
            raise SecretUnavailable(f"{pair}: Secret Manager did not answer: {_kind(error)}") from None

    def _retried(self, call: Callable[[SecretManagerServiceClient, float], T]) -> T:
        deadline = time.monotonic() + self._budget
        retrying = Retrying(
            retry=retry_if_exception(_transient),
            stop=stop_before_delay(self._budget),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            reraise=True,
        )
        return retrying(lambda: call(self._opened(), max(0.1, deadline - time.monotonic())))

    def _opened(self) -> SecretManagerServiceClient:
        if self._client is None or self._owner != os.getpid():  # connections are not shared with a forked child
            self._client, self._owner = _client(self._endpoint), os.getpid()
        return self._client

    def _namespace(self, pair: Pair) -> str:
        return f"{self._prefix}{encoded(pair.tenant)}--"

    def _name(self, pair: Pair, reference: SecretRef) -> str:
        found = _REFERENCE.fullmatch(reference)
        if not found:
            raise SecretNotFound(f"{pair}: {clean(reference)} is not gcp://projects/P/secrets/S/versions/V")
        if found[2] != self._project or not found[3].startswith(self._namespace(pair)):
            raise SecretNotFound(
                f"{pair}: {clean(reference)} is not this tenant's: "
                f"name projects/{self._project}/secrets/{self._namespace(pair)}…"
            )
        return found[1]


def _client(endpoint: str | None) -> SecretManagerServiceClient:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports.rest import (
        SecretManagerServiceRestTransport,
    )

    if endpoint is None:
        return SecretManagerServiceClient(transport="rest")
    address = urlsplit(endpoint)
    transport = SecretManagerServiceRestTransport(
        host=address.netloc,
        url_scheme=address.scheme,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # google-auth has no annotations here
    )
    return SecretManagerServiceClient(transport=transport)


def _failures() -> tuple[type[Exception], ...]:
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    return GoogleAPIError, GoogleAuthError, RequestException


def _transient(error: BaseException) -> bool:
    from google.api_core.exceptions import ServerError, TooManyRequests
    from requests.exceptions import RequestException

    return isinstance(error, ServerError | TooManyRequests | RequestException)


def _kind(error: Exception) -> str:
    """What went wrong, without the request's text."""
    return f"{type(error).__name__} {getattr(error, 'code', None) or ''}".strip()
