"""``GET /healthz`` and ``GET /metrics`` of a worker, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer

from prometheus_client import Metric

from spoke_jobs.contract.metrics.metric_families import counter, counter_by_label, gauge
from spoke_jobs.runners.schedule_metrics import CountSchedules, schedule_families
from spoke_jobs.shared import probe_server
from spoke_jobs.shared.probe_server import Answer
from spoke_jobs.worker.worker_metrics import WorkerMetrics

Backlog = Callable[[], dict[str, float]]
"""Counts the waiting jobs in the ledger. Called only when somebody scrapes."""


def serve(
    metrics: WorkerMetrics, backlog: Backlog, schedules: CountSchedules, port: int, host: str = ""
) -> ThreadingHTTPServer:
    """Serve until the process ends. Port 0 selects a free port."""
    routes = {
        "/healthz": lambda: probe_server.json_answer(*metrics.report()),
        "/metrics": lambda: exposition(metrics, backlog, schedules),
    }
    return probe_server.serve(routes, port, host)


def exposition(metrics: WorkerMetrics, backlog: Backlog, schedules: CountSchedules) -> Answer:
    """Return all metrics."""
    of_schedules = schedule_families("worker", schedules)
    return probe_server.exposition("worker", [*_of_metrics(metrics), *_of_backlog(backlog), *of_schedules])


def _of_metrics(metrics: WorkerMetrics) -> Iterator[Metric]:
    _, report = metrics.report()
    yield gauge("spoke_worker_running", report["running"])
    yield gauge("spoke_worker_seconds_since_poll", report["secondsSincePoll"])
    for name in ("claimed", "died", "reaped"):
        yield counter(f"spoke_worker_{name}", metrics.counts[name])
    ended = {
        name.removeprefix("ended_"): count
        for name, count in sorted(metrics.counts.items())
        if name.startswith("ended_")
    }
    yield counter_by_label("spoke_worker_attempts", ended)


def _of_backlog(backlog: Backlog) -> Iterator[Metric]:
    try:
        found = backlog()
    except Exception:  # the database is unreachable: report the other metrics
        return
    yield gauge("spoke_worker_jobs_due", found["due"])
    yield gauge("spoke_worker_oldest_due_seconds", found["oldest"])
