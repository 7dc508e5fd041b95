"""Make Prometheus' metrics by their names in the catalogue.

A *family* is filled for one scrape. A *live* metric counts in the process, and belongs to a registry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from spoke_jobs.contract.metrics.metric_catalogue import CATALOGUE
from spoke_jobs.contract.metrics.metric_spec import MetricKind, MetricSpec
from spoke_jobs.shared import histogram as shared_histogram


def gauge(name: str, value: float | None = None, wanted: Sequence[str] = ()) -> GaugeMetricFamily:
    """Return a gauge.

    :param value: without labels, the value.
    :param wanted: the optional labels that are switched on.
    """
    spec = _spec(name, MetricKind.GAUGE)
    return GaugeMetricFamily(name, spec.text, value, _labels(spec, value, wanted))


def counter(name: str, value: float | None = None) -> CounterMetricFamily:
    """Return a counter. ``value`` is that of a counter without labels."""
    spec = _spec(name, MetricKind.COUNTER)
    return CounterMetricFamily(name, spec.text, value, _labels(spec, value, ()))


def counter_by_label(name: str, values: Mapping[str, float]) -> CounterMetricFamily:
    """Return a counter with one label, from the counts by its values."""
    family = counter(name)
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def histogram(name: str, observed: Mapping[tuple[str, ...], shared_histogram.Histogram]) -> HistogramMetricFamily:
    """Return a histogram, from what was observed by the values of its labels."""
    spec = _spec(name, MetricKind.HISTOGRAM)
    family = HistogramMetricFamily(name, spec.text, labels=spec.label_names())
    for values, found in observed.items():
        family.add_metric(values, [_bucket(bucket) for bucket in found.buckets()], round(found.total, 6))
    return family


def live_gauge(name: str, registry: CollectorRegistry | None) -> Gauge:
    """Return a gauge that the process sets."""
    spec = _spec(name, MetricKind.GAUGE)
    return Gauge(name, spec.text, spec.label_names(), registry=registry)


def live_counter(name: str, registry: CollectorRegistry | None, wanted: Sequence[str] = ()) -> Counter:
    """Return a counter that the process increments."""
    spec = _spec(name, MetricKind.COUNTER)
    return Counter(name, spec.text, spec.label_names(tuple(wanted)), registry=registry)


def live_histogram(name: str, registry: CollectorRegistry | None, wanted: Sequence[str] = ()) -> Histogram:
    """Return a histogram that observes."""
    spec = _spec(name, MetricKind.HISTOGRAM)
    return Histogram(name, spec.text, spec.label_names(tuple(wanted)), registry=registry, buckets=spec.buckets)


def _spec(name: str, kind: MetricKind) -> MetricSpec:
    spec = CATALOGUE[name]
    if spec.kind is not kind:
        raise TypeError(f"{name} is a {spec.kind} in the catalogue, not a {kind}")
    return spec


def _bucket(bucket: shared_histogram.Bucket) -> tuple[str, float] | tuple[str, float, Exemplar]:
    bound: str = floatToGoString(bucket.bound)  # type: ignore[no-untyped-call]  # OpenMetrics demands 1.0, not 1
    if bucket.exemplar is None:
        return bound, bucket.up_to
    trace_id, value, observed_at = bucket.exemplar
    return bound, bucket.up_to, Exemplar(exemplar_labels(trace_id), value, observed_at)


def exemplar_labels(trace_id: str) -> dict[str, str]:
    """Return the labels of an exemplar, by the convention of OpenMetrics."""
    return {"trace_id": trace_id}


def _labels(spec: MetricSpec, value: float | None, wanted: Sequence[str]) -> tuple[str, ...] | None:
    return None if value is not None else spec.label_names(tuple(wanted))
