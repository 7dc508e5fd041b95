"""The task server's metrics."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.shared import probe_server
from spoke_jobs.shared.probe_server import Answer
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
    """

    def __init__(
        self,
        executor: TaskExecutor,
        intake: Intake,
        slots: int,
        outbox: OutboxWorker | None = None,
        connections: ConnectionTable | None = None,
    ) -> None:
        self._connections = connections or ConnectionTable(ConnectionLimits())
        self._executor = executor
        self._intake = intake
        self._slots = slots
        self._outbox = outbox
        self._backlog: Mapping[str, float] = {}
        self._backlog_at = float("-inf")

    async def __call__(self) -> Answer:
        """Return all metrics."""
        if self._outbox is not None and time.monotonic() - self._backlog_at > _FRESH_SECONDS:
            self._backlog_at = time.monotonic()
            try:
                self._backlog = await asyncio.to_thread(self._outbox.backlog)
            except Exception:  # the database is unavailable: serve the other metrics
                self._backlog = {}
        families = (self._of_executor(), self._of_intake(), self._of_connections(), self._of_outbox())
        return probe_server.exposition("tasks", list(itertools.chain.from_iterable(families)))

    def _of_executor(self) -> Iterator[Metric]:
        executor, counts = self._executor, self._executor.counts
        yield GaugeMetricFamily("spoke_tasks_unfinished", "Accepted tasks that have not ended.", executor.unfinished)
        yield GaugeMetricFamily("spoke_tasks_queued", "Accepted tasks that have not started.", executor.queued)
        yield GaugeMetricFamily("spoke_tasks_running", "Slots in use.", executor.running)
        yield GaugeMetricFamily(
            "spoke_tasks_slots", "Slots for `def` tasks, and as many for `async def` ones.", self._slots
        )
        yield GaugeMetricFamily("spoke_tasks_slots_hung", "Slots in use by tasks beyond their timeout.", executor.hung)
        yield CounterMetricFamily("spoke_tasks_accepted", "Tasks accepted.", counts.accepted)
        yield CounterMetricFamily("spoke_tasks_joined", "Redeliveries of tasks that had not ended.", counts.joined)
        yield CounterMetricFamily("spoke_tasks_recalled", "Redeliveries of tasks that had ended here.", counts.recalled)
        name = "spoke_tasks_refused"
        text = "Tasks that failed for good without being run here, by cause."
        yield probe_server.by_label(name, text, "cause", self._refused())
        yield CounterMetricFamily(
            "spoke_tasks_timed_out", "Tasks that exceeded their timeout and did not end.", counts.timed_out
        )
        name = "spoke_tasks_ended"
        ended = {outcome.value: count for outcome, count in counts.ended.items()}
        yield probe_server.by_label(name, "Tasks by how they ended.", "outcome", ended)
        yield counts.waited.family("spoke_tasks_wait_seconds", "Seconds from a task's dispatch to its start.")
        yield counts.ran.family("spoke_tasks_run_seconds", "Seconds from a task's start to its end.")

    def _refused(self) -> Mapping[str, int]:
        """Return the counts by cause. They start at 0, so that `increase()` sees the first of each."""
        refused = Counter({cause.value: count for cause, count in self._executor.counts.refused.items()})
        if self._outbox is not None:
            refused[TaskCause.UNKNOWN_TASK.value] += self._outbox.counts.unknown
            refused[TaskCause.WORKER_LOST.value] += self._outbox.counts.worker_lost
        return refused

    def _of_intake(self) -> Iterator[Metric]:
        intake = self._intake
        yield GaugeMetricFamily("spoke_tasks_draining", "1 while the replica is stopping.", intake.draining)
        yield CounterMetricFamily("spoke_tasks_requests", "Requests with tasks that were accepted.", intake.requests)
        name = "spoke_tasks_requests_refused"
        refused = CounterMetricFamily(name, "Requests refused, by status and reason.", labels=["status", "reason"])
        for (status, reason), count in sorted(intake.refused.items()):
            refused.add_metric([str(status), reason], count)
        yield refused

    def _of_connections(self) -> Iterator[Metric]:
        table = self._connections
        unproven = table.unproven
        name = "spoke_tasks_connections"
        connections = GaugeMetricFamily(
            name, "Connections, by whether they have shown valid credentials.", labels=["proven"]
        )
        connections.add_metric(["false"], unproven)
        connections.add_metric(["true"], len(table) - unproven)
        yield connections
        text = "Connections that the server closed: because of a limit, or because a phase took too long."
        yield probe_server.by_label("spoke_tasks_connections_closed", text, "reason", table.closed)

    def _of_outbox(self) -> Iterator[Metric]:
        if self._outbox is None:
            return
        yield GaugeMetricFamily("spoke_tasks_outbox_held", "Claims that this replica holds.", self._outbox.held)
        name = "spoke_tasks_outbox"
        yield probe_server.by_label(name, "Claims and their ends, by event.", "event", asdict(self._outbox.counts))
        if self._backlog:
            kept = self._backlog
            yield GaugeMetricFamily("spoke_tasks_outbox_due", "Due tasks without a claim.", kept["due"])
            text = "Seconds for which the oldest due task has been due."
            yield GaugeMetricFamily("spoke_tasks_outbox_oldest_due_seconds", text, kept["oldest"])
            yield GaugeMetricFamily("spoke_tasks_outbox_failed", "Failed tasks that are kept.", kept["failed"])
