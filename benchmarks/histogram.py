"""Figures that were counted second by second, as a histogram in text for the page."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from string import ascii_uppercase

from benchmarks.figures import Figure

WIDTH = 16
"""Characters of the highest bar of all."""


def histogram(figures: Iterable[Figure]) -> list[str]:
    """Lines of Markdown: the figures with `Figure.seconds` beside each other, to one scale; none if there is none."""
    counted = [figure for figure in figures if figure.seconds]
    if not counted:
        return []
    most = max(max(figure.seconds) for figure in counted)
    letters = ascii_uppercase[: len(counted)]
    rows = zip_longest(*[figure.seconds for figure in counted])
    return [
        "## Second by second",
        "",
        *(f"- {letter}: {figure.what}, {figure.measured}" for letter, figure in zip(letters, counted, strict=True)),
        "",
        "```",
        "second " + "".join(f"  {letter:<{WIDTH + 7}}" for letter in letters).rstrip(),
        *(_line(second, counts, most) for second, counts in enumerate(rows, 1)),
        "```",
        "",
    ]


def _line(second: int, counts: Iterable[float | None], most: float) -> str:
    cells = ("" if n is None else f"{n:>5,.0f} {'█' * round(WIDTH * n / most)}" for n in counts)
    return f"{second:>6} " + "".join(f"  {cell:<{WIDTH + 7}}" for cell in cells).rstrip()
