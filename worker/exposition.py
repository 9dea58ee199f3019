"""Metric families as text, gathered bit by bit: samples become lines at once, and only the lines are kept.

https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md#text-based-format

The same lines as those of `prometheus_client.generate_latest`, which needs all samples at once, and twice as long.
Gauges are in the order of their labels: the Pushgateway sorts all it holds at every push and at every scrape, which
costs a fifth where it finds everything in order.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString


class Exposition:
    """Families of gauges, counters and histograms, to which samples are added."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[Metric, list[str]]] = {}

    def add(self, families: Iterable[Metric]) -> None:
        """Add samples (without time stamps) to those of the same families."""
        for family in families:
            _, lines = self._families.setdefault(family.name, (_empty(family), []))
            lines.extend(map(_line, family.samples))

    def body(self) -> bytes:
        """Everything that was added."""
        return b"".join(_text(family, lines) for family, lines in self._families.values())


def _empty(family: Metric) -> Metric:
    return Metric(family.name, family.documentation, family.type)


def _text(family: Metric, lines: list[str]) -> bytes:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    meaning = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
    if family.type == "gauge":
        lines.sort()
    return "".join([f"# HELP {name} {meaning}\n# TYPE {name} {family.type}\n", *lines]).encode()


def _line(sample: Sample) -> str:
    value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]  # the one function that has no types there
    if not sample.labels:
        return f"{sample.name} {value}\n"
    labels = ",".join([f'{name}="{_escaped(text)}"' for name, text in sorted(sample.labels.items())])
    return f"{sample.name}{{{labels}}} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
