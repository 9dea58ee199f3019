"""The text that is pushed, beside what `prometheus_client` writes of the same families."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from registry.ids import Pair
from worker.exposition import Exposition
from worker.metrics import fresh_registry

Rows = list[tuple[str, str, float]]

TEXTS = st.text(st.sampled_from('ab"\\\n{},= ÿ€'), max_size=6)
ROWS = st.lists(st.tuples(TEXTS, TEXTS, st.floats()), max_size=8)
IDS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._:@-]{0,3}[A-Za-z0-9])?", fullmatch=True)


def written(*parts: Metric) -> bytes:
    text = Exposition()
    for family in parts:
        text.add([family])
    return text.body()


def theirs(family: Metric) -> list[bytes]:
    return generate_latest(fresh_registry([family])).split(b"\n")


def gauges(meaning: str, rows: Rows) -> GaugeMetricFamily:
    family = GaugeMetricFamily("thing", meaning, labels=["tenant_id", "connector"])
    for first, second, value in rows:
        family.add_metric([first, second], value)
    return family


@given(TEXTS, ROWS)
def test_gauges_are_written_as_the_client_does_but_in_order(meaning: str, rows: Rows) -> None:
    head, body = theirs(gauges(meaning, []))[:2], theirs(gauges(meaning, rows))[2:-1]
    assert written(gauges(meaning, rows)).split(b"\n") == [*head, *sorted(body), b""]


@given(TEXTS, ROWS)
def test_counters_and_histograms_are_written_as_the_client_does(meaning: str, rows: Rows) -> None:
    counter = CounterMetricFamily("things", meaning, labels=["connector", "reason"])
    histogram = HistogramMetricFamily("time_seconds", meaning, labels=["connector"])
    for first, second, value in rows:
        counter.add_metric([first, second], value)
        histogram.add_metric([first], [("0.1", 1), ("2.5", 2), ("10.0", 3), ("+Inf", 4)], value)
    for family in (counter, histogram):
        assert written(family) == b"\n".join(theirs(family))


def test_a_family_without_labels_or_without_samples_is_written_as_the_client_does() -> None:
    for family in (GaugeMetricFamily("thing", "One.", value=12345678), GaugeMetricFamily("thing", "None.")):
        assert written(family) == b"\n".join(theirs(family))


@given(ROWS, ROWS)
def test_what_is_added_later_stands_with_its_family(one: Rows, two: Rows) -> None:
    other = CounterMetricFamily("others", "", value=1)
    assert written(gauges("", one), other, gauges("", two)) == written(gauges("", [*one, *two]), other)


@given(st.lists(st.tuples(IDS, IDS), min_size=2, unique=True))
def test_pairs_are_in_the_order_in_which_the_pushgateway_compares_them(ids: list[tuple[str, str]]) -> None:
    text = written(gauges("", [(tenant, connector.lower(), 1) for connector, tenant in ids])).decode()
    (family,) = text_string_to_metric_families(text)
    told = [Pair(sample.labels["connector"], sample.labels["tenant_id"]) for sample in family.samples]
    assert all(before <= after for before, after in pairwise(told))
