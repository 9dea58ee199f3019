"""The map of tenants × connectors as data: a row a tenant, or a row for many whose ids begin alike.

However many tenants there are, a page shows at most `MOST` rows: beyond that, what is asked for without a filter is
grouped, and what is filtered comes page by page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry.health import Status
from registry.survey import ABSENT, CODES, Survey

MOST = 60
"""Rows at a time."""

FEW = 12
"""Tenants that are a group nobody wants to see apart."""

_WORDS = {code: status for status, code in CODES.items()}
_TROUBLE = ("x", "u", "d")
"""What is not healthy, the worst first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the map is asked for; `status` None: whatever it is, `connector` "": every one."""

    prefix: str = ""
    connector: str = ""
    status: Status | None = None
    trouble: bool = False
    page: int = 1

    @property
    def narrowed(self) -> bool:
        """Is it about verdicts of some kind?"""
        return self.trouble or self.status is not None


@dataclass(frozen=True, slots=True)
class Cell:
    """One connector in one row: its worst status (None: nobody has it), how many are in trouble, of how many."""

    connector: str
    status: Status | None
    troubled: int
    total: int


@dataclass(frozen=True, slots=True)
class Row:
    """A tenant, or (`size` > 1) those whose ids begin with `name`. `troubled` are those with a pair in trouble."""

    name: str
    size: int
    troubled: int
    cells: Sequence[Cell]
    group: bool = False


@dataclass(frozen=True, slots=True)
class Heat:
    """The map: its columns and rows, and where it is in all there is. `found` are the tenants that are asked for."""

    connectors: Sequence[str]
    rows: Sequence[Row]
    found: int
    page: int
    pages: int
    grouped: bool


def heat(survey: Survey, asked: Asked) -> Heat:
    """The map of what is asked for."""
    places = [at for at, name in enumerate(survey.connectors) if asked.connector in ("", name)]
    names = [survey.connectors[at] for at in places]
    found = _found(survey, asked, places)
    if len(found) > MOST and not asked.narrowed and not asked.connector:
        split = survey.groups(asked.prefix, MOST, least=FEW)
        groups = [_group(survey, names, places, head, members) for head, members in split]
        return Heat(names, groups, len(found), 1, 1, grouped=True)
    pages = max(1, -(-len(found) // MOST))
    page = min(max(1, asked.page), pages)
    shown = found[(page - 1) * MOST : page * MOST]
    return Heat(names, [_tenant(survey, names, places, one) for one in shown], len(found), page, pages, grouped=False)


def _found(survey: Survey, asked: Asked, places: Sequence[int]) -> Sequence[str]:
    under = survey.under(asked.prefix)
    if not asked.narrowed and not asked.connector:
        return under
    wanted = CODES[asked.status] if asked.status is not None else "".join(_TROUBLE) if asked.trouble else "hdux"
    found = [tenant for tenant in under if any(survey.rows[tenant][at] in wanted for at in places)]
    if not asked.narrowed:
        return found
    return sorted(found, key=lambda tenant: min(_rank(survey.rows[tenant][at]) for at in places))


def _rank(code: str) -> int:
    return _TROUBLE.index(code) if code in _TROUBLE else len(_TROUBLE)


def _tenant(survey: Survey, names: Sequence[str], places: Sequence[int], tenant: str) -> Row:
    row = survey.rows[tenant]
    cells = [_cell(name, row[at]) for name, at in zip(names, places, strict=True)]
    return Row(tenant, 1, int(any(cell.troubled for cell in cells)), cells)


def _group(survey: Survey, names: Sequence[str], places: Sequence[int], head: str, members: Sequence[str]) -> Row:
    if len(members) == 1:
        return _tenant(survey, names, places, members[0])
    rows = [survey.rows[tenant] for tenant in members]
    joined, width = "".join(rows), len(survey.connectors)
    cells = [_cell(name, joined[at::width]) for name, at in zip(names, places, strict=True)]
    troubled = sum(1 for row in rows if any(code in row for code in _TROUBLE))
    return Row(head, len(members), troubled, cells, group=True)


def _cell(name: str, codes: str) -> Cell:
    counts = [codes.count(code) for code in _TROUBLE]
    total = len(codes) - codes.count(ABSENT)
    worst = next((code for code, count in zip(_TROUBLE, counts, strict=True) if count), "h" if total else None)
    return Cell(name, _WORDS[worst] if worst else None, sum(counts), total)
