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


def schedule_families(process: MetricSource, count: CountSchedules, lag: Histogram) -> Iterator[Metric]:
    """Return the metrics; only the lag while the database is unreachable.

    :param process: the process that reports them, `worker` or `sync`.
    :param lag: how late this process has dispatched the jobs of schedules.
    """
    yield histogram(f"spoke_{process}_schedule_lag_seconds", {(): lag})
    try:
        found = count()
    except Exception:  # the other metrics are needed most when the database is down
        return
    states = gauge(f"spoke_{process}_schedules")
    for state, number in found.states.items():
        states.add_metric([state.value], number)
    yield states
    yield gauge(f"spoke_{process}_oldest_due_schedule_seconds", found.oldest_due_seconds)
