"""What every backend keeps per pair: a row holding a JSON document, and the rules for the row that follows it.

A backend reads a row, asks for the next one, and writes that in one atomic step. The document carries its
``schema``; `MIGRATIONS` brings an older one up to date each time it is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pydantic import JsonValue, SecretStr, ValidationError

from registry.connector import ConnectorConfig
from registry.errors import ConflictError, InvalidConfig, NotConfigured
from registry.ids import Pair, connector_id, tenant_id
from registry.stores import Broken, Change, Revision, StoredConfig

KEPT_REVISIONS = 20
"""How many revisions of a pair its history keeps."""

MAX_DOCUMENT = 64 * 1024
"""Characters of a stored document: far over any real configuration, far under every backend's limit."""

Document = dict[str, JsonValue]
Migrations = Mapping[int, Callable[[Document], Document]]

MIGRATIONS: Migrations = MappingProxyType({})
"""Schema → the function that turns a document of that schema into one of the next."""


def checked(pair: Pair) -> Pair:
    """`pair` if both ids are valid, else raises `InvalidId`."""
    return Pair(connector_id(pair.connector), tenant_id(pair.tenant))


def dumped(pair: Pair, config: ConnectorConfig, migrations: Migrations = MIGRATIONS) -> str:
    """The document to store. Raises `InvalidConfig` for a clear secret, and for what is too large or no JSON."""
    for field, value in config.secrets():
        if isinstance(value, SecretStr):
            raise InvalidConfig(f"{pair}: auth.{field} is a clear secret; only references are stored, seal it first")
    try:
        fields = {"schema": _current(migrations), **config.model_dump(mode="json", exclude_none=True)}
        document = json.dumps(fields, allow_nan=False)
    except ValueError as error:
        raise InvalidConfig(f"{pair}: the configuration cannot be written as JSON: {error}") from None
    if len(document) > MAX_DOCUMENT:
        raise InvalidConfig(f"{pair}: the configuration takes {len(document)} characters, at most {MAX_DOCUMENT}")
    return document


def loaded(pair: Pair, document: str, migrations: Migrations = MIGRATIONS) -> tuple[ConnectorConfig, int]:
    """The configuration in a document, and the schema it was stored in. Raises `InvalidConfig`."""
    schema, fields = _parsed(pair, document)
    current = _current(migrations)
    if not 1 <= schema <= current:
        raise InvalidConfig(f"{pair}: stored with schema {schema}, this version reads 1 to {current}: upgrade it")
    for step in range(schema, current):
        fields = migrations[step](fields)
    try:
        return ConnectorConfig.model_validate(fields), schema
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise InvalidConfig(f"{pair}: stored field {field} is invalid: {first['msg']}") from None


def _parsed(pair: Pair, document: str) -> tuple[int, Document]:
    try:
        fields = json.loads(document)
    except ValueError:
        raise InvalidConfig(f"{pair}: the stored document is not JSON") from None
    schema = fields.pop("schema", None) if isinstance(fields, dict) else None
    if not isinstance(schema, int):
        raise InvalidConfig(f"{pair}: stored field schema is missing or not a number")
    return schema, fields


def _current(migrations: Migrations) -> int:
    return 1 + len(migrations)


@dataclass(frozen=True, slots=True)
class Row:
    """A pair's latest write; `document` is None for a tombstone."""

    pair: Pair
    revision: int
    document: str | None
    actor: str
    updated_ms: int

    def stored(self) -> StoredConfig:
        """The row as a configuration. Raises `NotConfigured` for a tombstone, `InvalidConfig` if broken."""
        if self.document is None:
            raise not_configured(self.pair)
        config, schema = loaded(self.pair, self.document)
        return StoredConfig(self.pair, self.revision, config, self.actor, self.updated_ms, schema)

    def listed(self) -> StoredConfig | Broken:
        """The row as an item of an enumeration, which a broken document does not end."""
        try:
            return self.stored()
        except InvalidConfig as error:
            return Broken(self.pair, self.revision, str(error))

    def change(self) -> Change:
        """The row as an item of `Changes`."""
        config, error = self._readable()
        return Change(self.pair, self.revision, self.document is None, config, error)

    def past(self) -> Revision:
        """The row as an entry of the pair's history."""
        config, error = self._readable()
        return Revision(self.revision, self.actor, self.updated_ms, self.document is None, config, error)

    def _readable(self) -> tuple[ConnectorConfig | None, str | None]:
        if self.document is None:
            return None, None
        try:
            return loaded(self.pair, self.document)[0], None
        except InvalidConfig as error:
            return None, str(error)


def following(
    row: Row | None,
    pair: Pair,
    document: str | None,
    *,
    actor: str,
    expected: int | None,
    now_ms: int,
    beyond: int = 0,
) -> Row:
    """The row that a write puts in `row`'s place; `document` None deletes. This is the compare of compare-and-set."""
    current = row.revision if row and row.document is not None else 0
    if document is None and not current:
        raise not_configured(pair)
    if expected is not None and expected != current:
        there = f"is at revision {current}" if current else "is not configured"
        raise ConflictError(f"{pair} {there}, expected {expected or 'none'}: read it again and retry")
    return Row(pair, max(row.revision if row else 0, beyond) + 1, document, actor, now_ms)


def prepared(items: Sequence[tuple[Pair, ConnectorConfig]]) -> list[tuple[Pair, str]]:
    """Valid pairs and documents of a `set_many`, or the first item's error. A pair given twice is an error."""
    documents = [(checked(pair), dumped(pair, config)) for pair, config in items]
    seen: set[Pair] = set()
    for pair, _ in documents:
        if pair in seen:
            raise InvalidConfig(f"{pair} is given twice")
        seen.add(pair)
    return documents


def not_configured(pair: Pair) -> NotConfigured:
    """The error for a pair without a configuration."""
    return NotConfigured(f"tenant {pair.tenant} has no configuration for connector {pair.connector}")
