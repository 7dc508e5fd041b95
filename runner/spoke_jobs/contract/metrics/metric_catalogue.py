"""The catalogue: every metric of every kind of process.

A process makes its metrics by :mod:`.metric_families`, which takes kind, text, labels and buckets from here. The page
docs/reference/metrics.md is generated from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from spoke_jobs.contract.metrics import application_catalogue, operator_catalogue
from spoke_jobs.contract.metrics.metric_spec import Label, MetricSource, MetricSpec, counter, gauge

COMMON = (
    gauge(
        "spoke_build_info",
        "The release of spoke-jobs and of Python.",
        Label("component", "the kind of process"),
        Label("version", "one"),
        Label("python", "one"),
    ),
    # The rest is made by prometheus-client.
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes."),
    gauge("process_resident_memory_bytes", "Resident memory size in bytes."),
    gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds."),
    counter("process_cpu_seconds", "Total user and system CPU time spent in seconds."),
    gauge("process_open_fds", "Number of open file descriptors."),
    gauge("process_max_fds", "Maximum number of open file descriptors."),
)
"""The metrics of every process."""

BY_PROCESS: Mapping[MetricSource, tuple[MetricSpec, ...]] = MappingProxyType(
    {
        MetricSource.OPERATOR: operator_catalogue.OPERATOR,
        MetricSource.SYNC: application_catalogue.SYNC,
        MetricSource.WORKER: application_catalogue.WORKER,
        MetricSource.TASKS: application_catalogue.TASKS,
    }
)
"""The further metrics of each kind of process."""

CATALOGUE: Mapping[str, MetricSpec] = MappingProxyType(
    {spec.name: spec for specs in (COMMON, *BY_PROCESS.values()) for spec in specs}
)
"""All metrics by name, without the suffix ``_total`` of counters."""


def buckets_of(name: str) -> tuple[float, ...]:
    """Return the upper bounds of the buckets of a histogram in the catalogue."""
    return CATALOGUE[name].buckets
