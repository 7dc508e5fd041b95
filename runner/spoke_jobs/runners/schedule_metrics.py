"""Metrics of schedules, which workers and sync report: each of them sees all schedules of its runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Metric

from spoke_jobs.contract.metrics.metric_families import gauge
from spoke_jobs.ledger.schedules.schedule_states import ScheduleCounts

CountSchedules = Callable[[], ScheduleCounts]
"""Counts the schedules in the ledger. Called only when somebody scrapes."""


def schedule_families(process: str, count: CountSchedules) -> Iterator[Metric]:
    """Return the metrics; none while the database is unreachable.

    :param process: the process that reports them, `worker` or `sync`.
    """
    try:
        found = count()
    except Exception:  # the other metrics are needed most when the database is down
        return
    states = gauge(f"spoke_{process}_schedules")
    for state, number in found.states.items():
        states.add_metric([state.value], number)
    yield states
    yield gauge(f"spoke_{process}_oldest_due_schedule_seconds", found.oldest_due_seconds)
