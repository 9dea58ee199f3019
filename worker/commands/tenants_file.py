"""Reading a tenants file: YAML of tenant → connector → configuration, with the line of everything that is wrong.

The file may come from anybody: its size is bounded, repeated keys are refused, and see `worker.plain_yaml`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import yaml

from registry.clean import clean
from registry.errors import InvalidId
from registry.ids import Pair, connector_id, tenant_id
from worker.commands.exits import BadInput
from worker.plain_yaml import NotPlain, built, composed, line_of

MAX_BYTES = 8 * 1024 * 1024
"""The largest tenants file: some 40,000 configurations."""

_EXPECTED = "a mapping of tenant to connector to configuration under the key `tenants`"


@dataclass(frozen=True, slots=True)
class Entry:
    """One configuration as the file has it; `line` counts from 1, 0 when there is no file."""

    pair: Pair
    document: Mapping[str, object]
    line: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, and its line."""

    line: int
    sentence: str


@dataclass(slots=True)
class TenantsFile:
    """What a file says, and what is wrong with it."""

    name: str
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def refuse(self) -> None:
        """Raise `BadInput` with every problem, if there is one."""
        if self.problems:
            rows = sorted(self.problems, key=lambda problem: problem.line)
            raise BadInput("\n".join(f"{self._where(row.line)}: {clean(row.sentence, limit=1_000)}" for row in rows))

    def _where(self, line: int) -> str:
        return f"{self.name}:{line}" if line else self.name


def read_tenants(path: Path) -> TenantsFile:
    """Read the file at `path`, ``-`` for stdin.

    Raises:
        BadInput: the file cannot be read as YAML at all. What else is wrong stands in `TenantsFile.problems`.
    """
    name, text = _text(path)
    file = TenantsFile(name)
    root = _composed(name, text)
    if root is not None:
        _walk(file, root)
    return file


def read_document(path: Path) -> Mapping[str, object]:
    """One configuration from a YAML or JSON file (``-``: stdin), under the same rules. Raises `BadInput`."""
    name, text = _text(path)
    root = _composed(name, text)
    if not isinstance(root, yaml.MappingNode):
        raise BadInput(f"{name}: expected a configuration such as {{auth: {{type: bearer, token: env://TOKEN}}}}")
    file = TenantsFile(name, problems=list(_repeated(root)))
    document = _built(file, root)
    file.refuse()
    return document


def entries_of(tenants: Mapping[str, Mapping[str, Mapping[str, object]]]) -> list[Entry]:
    """The entries of data that comes from no file."""
    return [
        Entry(Pair(connector, tenant), document)
        for tenant, connectors in tenants.items()
        for connector, document in connectors.items()
    ]


def _text(path: Path) -> tuple[str, str]:
    name = "stdin" if str(path) == "-" else str(path)
    try:
        if str(path) == "-":
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{name}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise BadInput(f"{name}: larger than {MAX_BYTES} bytes: split it into several files")
    try:
        return name, raw.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None


def _composed(name: str, text: str) -> yaml.Node | None:
    try:
        return composed(text)
    except NotPlain as error:
        raise BadInput(f"{name}:{error.line}: {error}" if error.line else f"{name}: {error}") from None


def _walk(file: TenantsFile, root: yaml.Node) -> None:
    file.problems.extend(_repeated(root))
    for key, tenants in _items(file, root, _EXPECTED):
        if key.value != "tenants":
            file.problems.append(Problem(line_of(key), f"unknown key {key.value!r}: expected {_EXPECTED}"))
            continue
        for tenant, connectors in _items(file, tenants, "tenants by id"):
            known = _is_id(file, tenant, tenant_id, f"tenant {tenant.value}")
            for connector, document in _items(file, connectors, f"the connectors of tenant {tenant.value} by name"):
                where = f"tenant {tenant.value}, connector {connector.value}"
                if _is_id(file, connector, connector_id, where) and known:
                    _entry(file, Pair(connector.value, tenant.value), connector, document)


def _entry(file: TenantsFile, pair: Pair, key: yaml.ScalarNode, node: yaml.Node) -> None:
    if not isinstance(node, yaml.MappingNode):
        where = f"tenant {pair.tenant}, connector {pair.connector}"
        file.problems.append(Problem(line_of(node), f"{where}: expected a configuration with the field auth"))
        return
    file.entries.append(Entry(pair, _built(file, node), line_of(key)))


def _is_id(file: TenantsFile, key: yaml.ScalarNode, require: Callable[[object], str], where: str) -> bool:
    if key.tag != "tag:yaml.org,2002:str":
        kind = key.tag.rpartition(":")[2]
        file.problems.append(Problem(line_of(key), f"{where}: YAML reads this name as {kind}, put it in quotes"))
    try:
        require(key.value)
    except InvalidId as error:
        file.problems.append(Problem(line_of(key), str(error)))
        return False
    return True


def _items(file: TenantsFile, node: yaml.Node, expected: str) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        file.problems.append(Problem(line_of(node), f"expected {expected}"))
        return
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            yield key, value
        else:
            file.problems.append(Problem(line_of(key), f"expected a name as key: {expected}"))


def _built(file: TenantsFile, node: yaml.MappingNode) -> Mapping[str, object]:
    try:
        return cast("Mapping[str, object]", built(node))
    except NotPlain as error:
        file.problems.append(Problem(error.line or line_of(node), str(error)))
        return {}


def _repeated(root: yaml.Node) -> Iterator[Problem]:
    """Every key that stands twice in one mapping. YAML would silently keep the last."""
    if isinstance(root, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in root.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    told = f"{key.value!r} stands twice, first in line {seen[key.value]}: keep one"
                    yield Problem(line_of(key), told)
                seen.setdefault(key.value, line_of(key))
            yield from _repeated(value)
    elif isinstance(root, yaml.SequenceNode):
        for item in root.value:
            yield from _repeated(item)
