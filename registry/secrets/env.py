"""``env://NAME``: secrets in environment variables, each tenant's under its own prefix."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pydantic import SecretStr

from registry.clean import clean
from registry.connector import SecretRef
from registry.errors import SecretNotFound
from registry.ids import Pair, encoded

_NAME = re.compile(r"env://([A-Za-z0-9_]{1,128})")


class EnvSecrets:
    """Reads ``CONNECTOR_SECRET_<tenant>__NAME``; see `registry.ids.encoded` for the tenant's spelling.

    No encoded tenant holds ``__``, so no NAME of one tenant reaches another's variable.
    """

    scheme = "env"

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ

    def admit(self, pair: Pair, reference: SecretRef) -> None:
        """Raise `SecretNotFound` unless the name is one of ``[A-Za-z0-9_]``, at most 128 long."""
        self._variable(pair, reference)

    async def read(self, pair: Pair, reference: SecretRef) -> SecretStr:
        """The variable's value. Raises `SecretNotFound` naming the variable to set."""
        return self.open(pair, reference)

    def open(self, pair: Pair, reference: SecretRef) -> SecretStr:
        """The same as `read`, at once."""
        variable = self._variable(pair, reference)
        value = self._environ.get(variable)
        if not value:
            raise SecretNotFound(f"{pair}: {reference} is not set: set the environment variable {variable}")
        return SecretStr(value)

    async def aclose(self) -> None:
        """Nothing to give back."""

    def _variable(self, pair: Pair, reference: SecretRef) -> str:
        name = _NAME.fullmatch(reference)
        if not name:
            raise SecretNotFound(f"{pair}: {clean(reference)} is not env://NAME with NAME of A-Z, a-z, 0-9 and '_'")
        return f"CONNECTOR_SECRET_{encoded(pair.tenant)}__{name[1]}"
