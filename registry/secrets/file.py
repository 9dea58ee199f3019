"""``file://NAME``: secrets in files, one folder a tenant, as Kubernetes and Docker mount them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from pydantic import SecretStr

from registry.clean import clean
from registry.connector import SecretRef
from registry.errors import SecretNotFound, SecretUnavailable
from registry.ids import Pair, encoded

MAX_BYTES = 64 * 1024
"""The largest secret file that is read."""

_NAME = re.compile(r"file://([A-Za-z0-9_-][A-Za-z0-9._-]{0,127})")


class FileSecrets:
    """Reads ``<directory>/<tenant>/NAME``; see `registry.ids.encoded` for the tenant's spelling.

    Links are followed, because Kubernetes mounts secrets as links, but never out of the tenant's folder.
    """

    scheme = "file"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def admit(self, pair: Pair, reference: SecretRef) -> None:
        """Raise `SecretNotFound` unless the name is a plain file name."""
        self._name(pair, reference)

    async def read(self, pair: Pair, reference: SecretRef) -> SecretStr:
        """The file's text without its last newline. Raises `SecretNotFound` naming the file to create."""
        return await asyncio.to_thread(self._read, pair, self._name(pair, reference))

    async def aclose(self) -> None:
        """Nothing to give back."""

    def _read(self, pair: Pair, name: str) -> SecretStr:
        path = self._directory / encoded(pair.tenant) / name
        try:
            content = self._content(pair, path)
        except FileNotFoundError:
            raise SecretNotFound(f"{pair}: file://{name} does not exist: create {path}") from None
        except (OSError, RuntimeError) as error:  # RuntimeError: links that go round in a circle
            raise SecretUnavailable(f"{pair}: {path} cannot be read ({type(error).__name__})") from None
        if len(content) > MAX_BYTES:
            raise SecretNotFound(f"{pair}: {path} is larger than {MAX_BYTES} bytes")
        try:
            text = content.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise SecretNotFound(f"{pair}: {path} is not text in UTF-8") from None
        if not text:
            raise SecretNotFound(f"{pair}: {path} is empty")
        return SecretStr(text)

    def _content(self, pair: Pair, path: Path) -> bytes:
        if not self._directory.is_dir():
            raise SecretUnavailable(f"{pair}: the directory of secrets {self._directory} is not there")
        root = self._directory.resolve()
        folder, target = path.parent.resolve(strict=True), path.resolve(strict=True)
        inside = folder.name == path.parent.name and folder.is_relative_to(root) and target.is_relative_to(folder)
        if not inside or not target.is_file():
            raise SecretNotFound(f"{pair}: {path} is not a file inside the tenant's folder")
        with target.open("rb") as file:
            return file.read(MAX_BYTES + 1)

    def _name(self, pair: Pair, reference: SecretRef) -> str:
        name = _NAME.fullmatch(reference)
        if not name:
            raise SecretNotFound(f"{pair}: {clean(reference)} is not file://NAME with NAME a plain file name")
        return name[1]
