"""The catalogue of metrics: Prometheus' conventions, and the functions that make metrics from it."""

from __future__ import annotations

import math
import re
import time
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry
from tests.waiting import patient

from spoke_jobs.contract.metrics import metric_families
from spoke_jobs.contract.metrics.metric_catalogue import BY_PROCESS, CATALOGUE, COMMON
from spoke_jobs.contract.metrics.metric_spec import MetricKind, MetricSource, MetricSpec
from spoke_jobs.shared.histogram import Histogram

every_metric = pytest.mark.parametrize("spec", CATALOGUE.values(), ids=list(CATALOGUE))
RESERVED = {"job", "instance", "le", "quantile", "pod", "container", "endpoint", "service"}
"""Labels that Prometheus or its operator sets. It would rename ours."""


def test_every_kind_of_process_has_metrics_and_no_two_have_one_name() -> None:
    assert BY_PROCESS.keys() == set(MetricSource)
    names = Counter(spec.name for specs in (COMMON, *BY_PROCESS.values()) for spec in specs)
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("source", MetricSource)
def test_a_name_says_which_process_has_it(source: MetricSource) -> None:
    assert BY_PROCESS[source]
    for spec in BY_PROCESS[source]:
        assert spec.name.startswith(f"spoke_{source}_")


@every_metric
def test_it_keeps_to_prometheus_conventions(spec: MetricSpec) -> None:
    assert re.fullmatch("[a-z][a-z0-9_]*[a-z0-9]", spec.name)
    assert not re.search(
        r"_(total|count|sum|bucket|created|minutes|hours|days|ms|milliseconds|kb|mb|percent)\b", spec.name
    )
    assert spec.text.endswith(".")
    names = [label.name for label in spec.labels]
    assert len(names) == len(set(names))
    assert not RESERVED & set(names)
    assert all(label.values and not label.values.endswith(".") for label in spec.labels)
    assert list(spec.buckets) == sorted(set(spec.buckets))
    assert bool(spec.buckets) == (spec.kind is MetricKind.HISTOGRAM)
    assert spec.unit or spec.kind is not MetricKind.HISTOGRAM


def test_what_is_not_in_the_catalogue_or_is_something_else_there_is_refused() -> None:
    with pytest.raises(KeyError):
        metric_families.gauge("spoke_sync_invented", 1)
    with pytest.raises(TypeError, match="spoke_sync_active is a gauge in the catalogue, not a counter"):
        metric_families.counter("spoke_sync_active", 1)
    with pytest.raises(TypeError, match="not a histogram"):
        metric_families.live_histogram("spoke_operator_leads", CollectorRegistry())


def test_optional_labels_are_there_if_wanted_in_the_order_of_the_catalogue() -> None:
    waiting = CATALOGUE["spoke_operator_waiting"]
    assert waiting.label_names() == ("namespace", "reason")
    assert waiting.label_names(("queue", "type")) == ("namespace", "type", "queue", "reason")


def test_a_histogram_counts_each_value_in_its_bucket_and_all_above() -> None:
    histogram = Histogram((1.0, 2.5))
    for value in (0.5, 1.0, 2.0, 9.0):
        histogram.observe(value)
    assert histogram.buckets() == [(1, 2, None), (2.5, 3, None), (math.inf, 4, None)]
    assert histogram.total == 12.5


def test_a_bucket_has_the_last_of_its_values_that_belongs_to_a_sampled_trace() -> None:
    histogram = Histogram((1.0, 60.0))
    for value, trace_id in ((0.5, "a" * 32), (0.25, "b" * 32), (0.75, ""), (2.0, "")):
        histogram.observe(value, trace_id)
    copy = histogram.copy()
    histogram.observe(0.5, "c" * 32)
    family = metric_families.histogram("spoke_tasks_wait_seconds", {(): copy})
    buckets = [(sample.labels["le"], sample.exemplar) for sample in family.samples if "le" in sample.labels]
    assert [bound for bound, _ in buckets] == ["1.0", "60.0", "+Inf"]
    first, *others = [exemplar for _, exemplar in buckets]
    assert first is not None
    assert (first.labels, first.value) == ({"trace_id": "b" * 32}, 0.25)
    assert abs(float(first.timestamp or 0) - time.time()) < patient(60)
    assert others == [None, None]
