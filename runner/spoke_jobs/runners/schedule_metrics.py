"""Metrics of schedules, which workers and sync report: each of them sees all schedules of its runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Metric

from spoke_jobs.contract.metrics.metric_families import gauge, histogram
from spoke_jobs.contract.metrics.metric_spec import MetricSource
from spoke_jobs.ledger.schedules.schedule_states import ScheduleCounts
from spoke_jobs.shared.histogram import Histogram

CountSchedules = Callable[[], ScheduleCounts]
"""Counts the schedules in the ledger. Called only when somebody scrapes."""


def schedule_families(process: MetricSource, found: ScheduleCounts) -> Iterator[Metric]:
    """Return the metrics of the schedules in the ledger.

    :param process: the process that reports them, `worker` or `sync`.
    """
    states = gauge(f"spoke_{process}_schedules")
    for state, number in found.states.items():
        states.add_metric([state.value], number)
    yield states
    yield gauge(f"spoke_{process}_oldest_due_schedule_seconds", found.oldest_due_seconds)


def lag_family(process: MetricSource, lag: Histogram) -> Metric:
    """Return the metric of how late a process has dispatched the jobs of schedules."""
    return histogram(f"spoke_{process}_schedule_lag_seconds", {(): lag})
