"""``GET /healthz`` and ``GET /metrics`` of a worker, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer

from spoke_jobs.process import probe_server
from spoke_jobs.worker.worker_metrics import WorkerMetrics

Backlog = Callable[[], dict[str, float]]
"""What waits in the ledger: asked for by whoever scrapes, so that nothing is computed for nobody."""


def serve(metrics: WorkerMetrics, backlog: Backlog, port: int, host: str = "") -> ThreadingHTTPServer:
    """Answer until the process ends. Port 0 takes a free one."""

    return probe_server.serve(metrics.report, lambda: [*_of_figures(metrics), *_of_backlog(backlog)], port, host)


_HELP = {
    "claimed": "Jobs claimed.",
    "died": "Child processes that ended with an attempt.",
    "reaped": "Attempts ended because their lease had lapsed.",
}


def _of_figures(metrics: WorkerMetrics) -> Iterator[str]:
    _, report = metrics.report()
    yield from _metric("running", "gauge", "Attempts that run now.", report["running"])
    yield from _metric("seconds_since_poll", "gauge", "Since the ledger last answered.", report["secondsSincePoll"])
    for name, text in _HELP.items():
        yield from _metric(f"{name}_total", "counter", text, metrics.counts[name])
    ended = {
        name.removeprefix("ended_"): count
        for name, count in sorted(metrics.counts.items())
        if name.startswith("ended_")
    }
    text = "Attempts by how their process reported their end."
    yield from probe_server.labelled("spoke_worker_attempts_total", "counter", text, "end", ended)


def _of_backlog(backlog: Backlog) -> Iterator[str]:
    try:
        found = backlog()
    except Exception:  # the database is away: the other metrics are wanted all the more
        return
    yield from _metric("jobs_due", "gauge", "Jobs that could start now, but for their queues.", found["due"])
    yield from _metric("oldest_due_seconds", "gauge", "For how long the oldest of them has been due.", found["oldest"])


def _metric(name: str, kind: str, text: str, value: float) -> Iterator[str]:
    return probe_server.metric(f"spoke_worker_{name}", kind, text, value)
