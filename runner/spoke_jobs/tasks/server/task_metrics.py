"""The task server's metrics."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

from prometheus_client import Metric

from spoke_jobs.contract.metrics.metric_families import counter, counter_by_label, gauge, histogram
from spoke_jobs.contract.metrics.metric_spec import MetricSource
from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.ledger.pool_metrics import PoolUse, pool_families
from spoke_jobs.shared.metric_exposition import Exposition
from spoke_jobs.tasks.server.connection_table import ConnectionLimits, ConnectionTable
from spoke_jobs.tasks.server.executor import TaskExecutor
from spoke_jobs.tasks.server.http_app import Intake
from spoke_jobs.tasks.server.outbox_worker import OutboxWorker

_FRESH_SECONDS = 5.0
"""How long the last query of the outbox's backlog is reused."""

logger = logging.getLogger(__name__)


class TaskMetrics:
    """Answers scrapes.

    :param outbox: None if no outbox is served.
    :param pool: returns the use of the connections to the database; None if there is none.
    """

    def __init__(
        self,
        executor: TaskExecutor,
        intake: Intake,
        slots: int,
        outbox: OutboxWorker | None = None,
        connections: ConnectionTable | None = None,
        pool: Callable[[], PoolUse | None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._connections = connections or ConnectionTable(ConnectionLimits())
        self._executor = executor
        self._intake = intake
        self._slots = slots
        self._outbox = outbox
        self._backlog: Mapping[str, float] = {}
        self._backlog_at = float("-inf")

    async def __call__(self) -> Exposition:
        """Return all metrics."""
        if self._outbox is not None and time.monotonic() - self._backlog_at > _FRESH_SECONDS:
            self._backlog_at = time.monotonic()
            try:
                self._backlog = await asyncio.to_thread(self._outbox.backlog)
            except Exception:  # the database is unavailable: serve the other metrics
                self._backlog = {}
        families = (
            self._of_executor(),
            self._of_intake(),
            self._of_connections(),
            self._of_outbox(),
            pool_families(MetricSource.TASKS, self._pool()),
        )
        return Exposition(MetricSource.TASKS, list(itertools.chain.from_iterable(families)))

    def _of_executor(self) -> Iterator[Metric]:
        executor, counts = self._executor, self._executor.counts
        yield gauge("spoke_tasks_unfinished", executor.unfinished)
        yield gauge("spoke_tasks_queued", executor.queued)
        yield gauge("spoke_tasks_running", executor.running)
        yield gauge("spoke_tasks_slots", self._slots)
        yield gauge("spoke_tasks_slots_hung", executor.hung)
        yield counter("spoke_tasks_accepted", counts.accepted)
        yield counter("spoke_tasks_joined", counts.joined)
        yield counter("spoke_tasks_recalled", counts.recalled)
        yield counter_by_label("spoke_tasks_refused", self._refused())
        yield counter("spoke_tasks_timed_out", counts.timed_out)
        ended = {outcome.value: count for outcome, count in counts.ended.items()}
        yield counter_by_label("spoke_tasks_ended", ended)
        yield histogram("spoke_tasks_wait_seconds", {(): counts.waited})
        yield histogram("spoke_tasks_run_seconds", {(): counts.ran})

    def _refused(self) -> Mapping[str, int]:
        """Return the counts by cause. They start at 0, so that `increase()` sees the first of each."""
        refused = Counter({cause.value: count for cause, count in self._executor.counts.refused.items()})
        if self._outbox is not None:
            refused[TaskCause.UNKNOWN_TASK.value] += self._outbox.counts.unknown
            refused[TaskCause.WORKER_LOST.value] += self._outbox.counts.worker_lost
        return refused

    def _of_intake(self) -> Iterator[Metric]:
        intake = self._intake
        yield gauge("spoke_tasks_draining", intake.draining)
        yield counter("spoke_tasks_requests", intake.requests)
        refused = counter("spoke_tasks_requests_refused")
        for (status, reason), count in sorted(intake.refused.items()):
            refused.add_metric([str(status), reason], count)
        yield refused

    def _of_connections(self) -> Iterator[Metric]:
        table = self._connections
        unproven = table.unproven
        connections = gauge("spoke_tasks_connections")
        connections.add_metric(["false"], unproven)
        connections.add_metric(["true"], len(table) - unproven)
        yield connections
        yield counter_by_label("spoke_tasks_connections_closed", table.closed)

    def _of_outbox(self) -> Iterator[Metric]:
        if self._outbox is None:
            return
        yield gauge("spoke_tasks_outbox_held", self._outbox.held)
        yield counter_by_label("spoke_tasks_outbox", asdict(self._outbox.counts))
        if self._backlog:
            kept = self._backlog
            yield gauge("spoke_tasks_outbox_due", kept["due"])
            yield gauge("spoke_tasks_outbox_oldest_due_seconds", kept["oldest"])
            yield gauge("spoke_tasks_outbox_failed", kept["failed"])
