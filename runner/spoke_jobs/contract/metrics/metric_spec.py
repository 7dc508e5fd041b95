"""What the catalogue says of a metric."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_UNITS = frozenset({"seconds", "bytes", "ratio"})
"""The base units of Prometheus that the names of our metrics may contain."""
OTHER = "other"
"""The value of a label beyond its bound."""


class MetricKind(StrEnum):
    """The kinds of Prometheus."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class MetricSource(StrEnum):
    """A kind of process that serves metrics; the value is the label `component` of `spoke_build_info`."""

    OPERATOR = "operator"
    SYNC = "sync"
    WORKER = "worker"
    TASKS = "tasks"


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a metric."""

    name: str
    values: str
    """Which values it has, and what bounds their number."""
    optional: bool = False
    """Whether a setting adds it."""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric."""

    name: str
    """Without the suffix ``_total`` of counters."""
    kind: MetricKind
    text: str
    """The text that Prometheus shows (HELP)."""
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    """The upper bounds of a histogram's buckets, without infinity."""
    has_exemplars: bool = False
    """Whether a histogram's buckets have exemplars where traces are on."""

    @property
    def exposed(self) -> str:
        """The name in queries; of a histogram, without ``_bucket``, ``_sum`` and ``_count``."""
        return f"{self.name}_total" if self.kind is MetricKind.COUNTER else self.name

    @property
    def series(self) -> frozenset[str]:
        """The names of its series."""
        if self.kind is MetricKind.HISTOGRAM:
            return frozenset(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return frozenset({self.exposed})

    @property
    def unit(self) -> str:
        """The unit, which its name contains; empty for numbers of things."""
        return next((part for part in self.name.split("_") if part in _UNITS), "")

    def label_names(self, wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the names of the labels, in order.

        :param wanted: the optional ones that are switched on.
        """
        return tuple(label.name for label in self.labels if not label.optional or label.name in wanted)


def gauge(name: str, text: str, *labels: Label) -> MetricSpec:
    """Return a gauge for the catalogue."""
    return MetricSpec(name, MetricKind.GAUGE, text, labels)


def counter(name: str, text: str, *labels: Label) -> MetricSpec:
    """Return a counter for the catalogue."""
    return MetricSpec(name, MetricKind.COUNTER, text, labels)


def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: Label) -> MetricSpec:
    """Return a histogram for the catalogue."""
    return MetricSpec(name, MetricKind.HISTOGRAM, text, labels, buckets)


def traced_histogram(name: str, text: str, buckets: tuple[float, ...], *labels: Label) -> MetricSpec:
    """Return a histogram with exemplars for the catalogue."""
    return MetricSpec(name, MetricKind.HISTOGRAM, text, labels, buckets, has_exemplars=True)
