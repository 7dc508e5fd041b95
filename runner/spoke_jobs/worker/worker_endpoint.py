"""``GET /healthz`` and ``GET /metrics`` of a worker, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import ThreadingHTTPServer
from typing import Protocol

from prometheus_client import Metric
from sqlalchemy import Connection

from spoke_jobs.contract.metrics.application_catalogue import MOST_SCOPES
from spoke_jobs.contract.metrics.metric_families import counter, counter_by_label, gauge
from spoke_jobs.contract.metrics.metric_spec import MetricSource
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.limits_and_pauses import current_limits
from spoke_jobs.ledger.pool_metrics import PoolUse, pool_families, pool_use
from spoke_jobs.ledger.reading.failed_jobs import FailedJobs, failed_jobs
from spoke_jobs.ledger.schedules.schedule_states import ScheduleCounts
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.admission import LimitFigures
from spoke_jobs.runners.attempt_metrics import attempt_families
from spoke_jobs.runners.schedule_metrics import lag_family, schedule_families
from spoke_jobs.shared import probe_server
from spoke_jobs.shared.metric_exposition import Exposition
from spoke_jobs.shared.probe_server import Routes
from spoke_jobs.worker.worker_metrics import WorkerMetrics


class Reads(Protocol):
    """What a scrape reads; see :class:`spoke_jobs.worker.worker_endpoint.LedgerReads`."""

    def backlog(self) -> dict[str, float]:
        """Count the waiting jobs."""

    def schedules(self) -> ScheduleCounts:
        """Count the schedules."""

    def limits(self) -> LimitFigures:
        """Return the limits with their use."""

    def pool(self) -> PoolUse | None:
        """Return the use of the connections to the database."""

    @property
    def failed(self) -> Callable[[], int]:
        """Count the failed jobs since the first scrape."""


def serve(metrics: WorkerMetrics, reads: Reads, port: int, host: str = "") -> ThreadingHTTPServer:
    """Serve until the process ends. Port 0 selects a free port."""
    routes: Routes = {
        "/healthz": lambda: probe_server.json_answer(*metrics.report()),
        "/metrics": lambda: exposition(metrics, reads),
    }
    return probe_server.serve(routes, port, host)


def exposition(metrics: WorkerMetrics, reads: Reads) -> Exposition:
    """Return all metrics."""
    families = [
        *_of_metrics(metrics),
        *attempt_families(metrics.attempts),
        *_of_ledger(reads),
        lag_family(MetricSource.WORKER, metrics.schedule_lag),
        *pool_families(MetricSource.WORKER, reads.pool()),
    ]
    return Exposition(MetricSource.WORKER, families)


def _of_metrics(metrics: WorkerMetrics) -> Iterator[Metric]:
    _, report = metrics.report()
    yield gauge("spoke_worker_running", report["running"])
    yield gauge("spoke_worker_held_back_types", report["heldBackTypes"])
    yield gauge("spoke_worker_seconds_since_poll", report["secondsSincePoll"])
    for name in ("claimed", "died", "reaped"):
        yield counter(f"spoke_worker_{name}", metrics.counts[name])
    # All ends are initialized to 0, so that `increase()` sees the first of each.
    ends = {code.name.lower(): metrics.counts[f"ended_{code.name.lower()}"] for code in ExitCode}
    yield counter_by_label("spoke_worker_attempts", ends)


def _of_ledger(reads: Reads) -> Iterator[Metric]:
    """Yield what is read from the ledger, up to the first read that fails: each may take seconds to fail.

    The other metrics are needed most when the database is unreachable.
    """
    parts: tuple[Callable[[], Iterable[Metric]], ...] = (
        lambda: _of_backlog(reads.backlog()),
        lambda: schedule_families(MetricSource.WORKER, reads.schedules()),
        lambda: [counter("spoke_worker_jobs_failed", reads.failed())],
        lambda: _of_limits(reads.limits()),
    )
    for part in parts:
        try:
            yield from list(part())
        except Exception:
            return


def _of_backlog(found: dict[str, float]) -> Iterator[Metric]:
    yield gauge("spoke_worker_jobs_due", found["due"])
    yield gauge("spoke_worker_oldest_due_seconds", found["oldest"])


def _of_limits(found: LimitFigures) -> Iterator[Metric]:
    limit, used = gauge("spoke_worker_limit"), gauge("spoke_worker_limit_used")
    for use in found.uses:
        limit.add_metric([use.scope], use.limit)
        used.add_metric([use.scope], use.used)
    paused = gauge("spoke_worker_paused")
    for scope, by in found.paused.items():
        paused.add_metric([scope, by], 1)
    yield from (limit, used, paused)


class FailureCounter:
    """Counts failed jobs since the first call. Calls come one after the other.

    :param look: counts those since a time, or begins.
    """

    def __init__(self, look: Callable[[datetime | None], FailedJobs]) -> None:
        self._look = look
        self._until: datetime | None = None
        self._count = 0

    def __call__(self) -> int:
        """Count those since the last call. Return the number since the first one."""
        found = self._look(self._until)
        self._until = found.until
        self._count += found.count
        return self._count


class LedgerReads:
    """Reads of a ledger. Each raises an error while the database is unreachable."""

    def __init__(self, ledger: SqlLedger, runner: str) -> None:
        self._ledger = ledger
        self._runner = runner
        self.failed = FailureCounter(self._failed_since)

    def backlog(self) -> dict[str, float]:
        """Count the due jobs, and the seconds for which the oldest has been due."""
        return self._ledger.backlog(self._runner)

    def schedules(self) -> ScheduleCounts:
        """Count the schedules."""
        return self._ledger.count_schedules(self._runner)

    def limits(self) -> LimitFigures:
        """Return the limits with their use, and the pauses."""
        with self._reading() as connection:
            return current_limits.read_admission(connection).figures(MOST_SCOPES)

    def pool(self) -> PoolUse | None:
        """Return the use of the connections to the database. This needs no connection."""
        return pool_use(self._ledger.engine)

    def _failed_since(self, since: datetime | None) -> FailedJobs:
        with self._reading() as connection:
            return failed_jobs(connection, self._runner, since)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._ledger.engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            yield connection
