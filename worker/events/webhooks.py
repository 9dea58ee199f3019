"""The webhooks an operator asks for, read from a YAML file.

.. code-block:: yaml

    webhooks:
      ops:
        url_file: /run/secrets/slack-webhook   # or url: https://…
        form: slack
        faults: [vendor, platform]
      product:
        url: https://product.example/hooks/connectors
        secret_file: /run/secrets/webhook-key  # or secret: whsec_…
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from registry.errors import InvalidConfig
from registry.health import Fault
from registry.ids import connector_id, tenant_id
from worker.events.message import Message, MessageType
from worker.plain_yaml import NotPlain, built, composed

SECRET_PREFIX = "whsec_"  # noqa: S105 - how such keys begin, not a key
"""How a signing key begins: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"""

SHORTEST_KEY = 24
"""Bytes a signing key has at least, as that specification asks."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$")]


class Webhook(BaseModel):
    """Where messages go, in which form, and which of them.

    `connectors`, `tenants` and `faults` are those to tell of; none means all. What concerns no tenant (an incident)
    goes to a webhook of certain tenants only if it names no tenants.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: SecretStr
    secret: SecretStr | None = None
    form: Literal["cloudevents", "slack"] = "cloudevents"
    connectors: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    timeout: float = Field(10.0, gt=0, le=60, description="Seconds one delivery may take.")

    @model_validator(mode="before")
    @classmethod
    def _from_files(cls, given: object) -> object:
        """`url_file` and `secret_file` name files that hold the value."""
        if not isinstance(given, dict):
            return given
        values = dict(given)
        for field in ("url", "secret"):
            path = values.pop(f"{field}_file", None)
            if path is None:
                continue
            if field in values:
                raise ValueError(f"{field} and {field}_file are both given")
            try:
                values[field] = Path(str(path)).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"{field}_file {path} cannot be read ({type(error).__name__})") from None
        return values

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(url.get_secret_value())
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("not an http or https address")
        return url

    @field_validator("secret")
    @classmethod
    def _is_key(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(_key(secret)) < SHORTEST_KEY:
            raise ValueError(f"shorter than {SHORTEST_KEY} bytes")
        return secret

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        for name in self.connectors:
            connector_id(name)
        for tenant in self.tenants:
            tenant_id(tenant)
        return self

    @property
    def key(self) -> bytes | None:
        """The signing key; None sends unsigned."""
        return None if self.secret is None else _key(self.secret)

    def wants(self, message: Message) -> bool:
        """Is this webhook to be told of `message`?"""
        if message.type in (MessageType.LOST, MessageType.BEGUN):
            return True  # nobody knows whose transitions they were
        if self.form == "slack" and message.explained:
            return False  # people read the incident itself
        return (
            (not self.connectors or message.connector in self.connectors)
            and (not self.tenants or message.tenant in self.tenants)
            and (not self.faults or message.fault in self.faults)
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    webhooks: dict[Name, Webhook] = {}


def load_webhooks(path: Path | None, connectors: Collection[str]) -> dict[str, Webhook]:
    """The webhooks of the file at `path`, by name; none without a file.

    Args:
        path: what WEBHOOKS_FILE says.
        connectors: those that there are; a webhook that asks for another would never be told of anything.

    Raises:
        InvalidConfig: the file cannot be used; the message names file, webhook and field, never a value.
    """
    if path is None:
        return {}
    try:
        root = composed(path.read_text())
        found = _File.model_validate((built(root) if root else None) or {}).webhooks
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, row['loc'][1:] or row['loc']))}: {row['msg'].removeprefix('Value error, ')}"
            for row in error.errors()
        )
        raise InvalidConfig(f"WEBHOOKS_FILE {path}: {wrong}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"WEBHOOKS_FILE {path}: cannot be read ({type(error).__name__})") from None
    except NotPlain as error:
        line = f", line {error.line}" if error.line else ""
        raise InvalidConfig(f"WEBHOOKS_FILE {path}{line}: {error}") from None
    _refuse_unknown(path, found, connectors)
    return found


def _refuse_unknown(path: Path, found: Mapping[str, Webhook], connectors: Collection[str]) -> None:
    for name, webhook in found.items():
        for unknown in set(webhook.connectors) - set(connectors):
            known = ", ".join(sorted(connectors))
            raise InvalidConfig(
                f"WEBHOOKS_FILE {path}: {name}.connectors: no connector {unknown!r} is registered; there are: {known}"
            )


def _key(secret: SecretStr) -> bytes:
    try:
        return base64.b64decode(secret.get_secret_value().removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        raise ValueError(f"not a key: {SECRET_PREFIX} and base64 of at least {SHORTEST_KEY} bytes") from None
