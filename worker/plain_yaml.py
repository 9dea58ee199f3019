"""YAML that may come from anybody, read within bounds and into plain values only.

Its depth and the number of its values are bounded; aliases (which can blow up a small file) and tags (which make of a
value what it does not look like) are refused before anything is built.
"""

from __future__ import annotations

import re

import yaml
from yaml.constructor import SafeConstructor

MAX_VALUES = 1_000_000
"""Values in a file, keys and brackets included."""

MAX_DEPTH = 32
"""How deep mappings and lists may be nested."""

_LONG_NUMBER = re.compile(r"[-+]?[0-9_]*(:[0-9_]+){8}")
"""Base-60 numbers of YAML 1.1, whose reading takes more than linear time."""

_TEXT = "tag:yaml.org,2002:str"
_Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class NotPlain(Exception):
    """What cannot be read, and its line; 0 where no line can be told."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


def composed(text: str) -> yaml.Node | None:
    """The only document of `text`, of which nothing is built yet; None if there is none. Raises `NotPlain`."""
    try:
        _require_plain(text)
        root: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _refused(error) from None
    return root


def built(node: yaml.Node) -> object:
    """The value of a node. Raises `NotPlain`."""
    try:
        value: object = _Constructor().construct_document(node)
    except yaml.YAMLError as error:
        raise _refused(error) from None
    return value


def line_of(at: yaml.Node | yaml.Event) -> int:
    """Where a node begins, counted from 1; 0 where that is not known."""
    return int(at.start_mark.line) + 1 if at.start_mark else 0


class _Constructor(SafeConstructor):
    """Tells the line of a value that looks like a date or a number and is none, such as 2026-13-45."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:  # noqa: FBT001, FBT002 - as PyYAML has it
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError) as error:
            raise NotPlain(line_of(node), f"a value cannot be read: {error}") from None


def _require_plain(text: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        line = line_of(event)
        if count > MAX_VALUES:
            raise NotPlain(line, f"more than {MAX_VALUES} values: split the file")
        if isinstance(event, yaml.AliasEvent):
            raise NotPlain(line, f"aliases (*{event.anchor}) are not accepted: write the value out")
        if (tag := getattr(event, "tag", None)) not in (None, _TEXT):
            raise NotPlain(line, f"tags ({tag}) are not accepted: write the value as it is, or in quotes")
        if isinstance(event, yaml.ScalarEvent) and event.style is None and _LONG_NUMBER.match(event.value):
            raise NotPlain(line, "YAML may read this as a very long number: put it in quotes")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise NotPlain(line, f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _refused(error: yaml.YAMLError) -> NotPlain:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "unreadable"
    return NotPlain(mark.line + 1 if mark else 0, f"not valid YAML: {problem}")
