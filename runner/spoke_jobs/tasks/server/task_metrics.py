"""The task server's figures in Prometheus's text format."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from spoke_jobs.contract import probe_server
from spoke_jobs.contract.causes import TaskCause
from spoke_jobs.contract.probe_server import Answer
from spoke_jobs.tasks.server.executor import TaskExecutor
from spoke_jobs.tasks.server.http_app import Intake
from spoke_jobs.tasks.server.outbox_worker import OutboxWorker

_FRESH_SECONDS = 5.0

logger = logging.getLogger(__name__)


class TaskMetrics:
    """Called for each scrape.

    :param pump: None where no outbox is served.
    """

    def __init__(self, engine: TaskExecutor, gate: Intake, slots: int, pump: OutboxWorker | None = None) -> None:
        self._engine = engine
        self._gate = gate
        self._slots = slots
        self._pump = pump
        self._backlog: Mapping[str, float] = {}
        self._looked_at = float("-inf")

    async def __call__(self) -> Answer:
        """All of them."""
        if self._pump is not None and time.monotonic() - self._looked_at > _FRESH_SECONDS:
            self._looked_at = time.monotonic()
            try:
                self._backlog = await asyncio.to_thread(self._pump.backlog)
            except Exception:  # the database is away: the other figures are wanted all the more
                self._backlog = {}
        return probe_server.exposition([*self._of_engine(), *self._of_gate(), *self._of_outbox()])

    def _of_engine(self) -> Iterator[Metric]:
        engine, counts = self._engine, self._engine.counts
        yield GaugeMetricFamily("spoke_tasks_unfinished", "Accepted tasks that have not ended.", engine.unfinished)
        yield GaugeMetricFamily("spoke_tasks_queued", "Accepted tasks that have not begun.", engine.queued)
        yield GaugeMetricFamily("spoke_tasks_running", "Slots in use.", engine.running)
        yield GaugeMetricFamily(
            "spoke_tasks_slots", "Slots for `def` tasks, and as many for `async def` ones.", self._slots
        )
        yield GaugeMetricFamily("spoke_tasks_slots_hung", "Slots held by tasks beyond their timeout.", engine.hung)
        yield CounterMetricFamily("spoke_tasks_accepted", "Tasks accepted.", counts.accepted)
        yield CounterMetricFamily("spoke_tasks_joined", "Redeliveries of tasks that were here.", counts.joined)
        yield CounterMetricFamily("spoke_tasks_recalled", "Redeliveries of tasks that had ended here.", counts.recalled)
        name = "spoke_tasks_refused"
        text = "Tasks failed for good without being run here, by cause."
        yield probe_server.by_label(name, text, "cause", self._refused())
        yield CounterMetricFamily(
            "spoke_tasks_timed_out", "Tasks given up, as they did not end in time.", counts.timed_out
        )
        name = "spoke_tasks_ended"
        ended = {outcome.value: count for outcome, count in counts.ended.items()}
        yield probe_server.by_label(name, "Tasks by how they ended.", "outcome", ended)
        yield counts.waited.family("spoke_tasks_wait_seconds", "From a task's dispatch to its start.")
        yield counts.ran.family("spoke_tasks_run_seconds", "From a task's start to its end.")

    def _refused(self) -> Mapping[str, int]:
        """Each cause from the start: of a count that begins with its first one an alarm sees no increase."""
        refused = Counter({cause.value: count for cause, count in self._engine.counts.refused.items()})
        if self._pump is not None:
            refused[TaskCause.UNKNOWN_TASK.value] += self._pump.counts.unknown
            refused[TaskCause.WORKER_LOST.value] += self._pump.counts.worker_lost
        return refused

    def _of_gate(self) -> Iterator[Metric]:
        gate = self._gate
        yield GaugeMetricFamily("spoke_tasks_draining", "1 while the replica is stopping.", gate.draining)
        yield CounterMetricFamily("spoke_tasks_requests", "Requests with tasks that were taken.", gate.requests)
        name = "spoke_tasks_requests_refused"
        refused = CounterMetricFamily(name, "Requests turned away, by status and reason.", labels=["status", "reason"])
        for (status, reason), count in sorted(gate.refused.items()):
            refused.add_metric([str(status), reason], count)
        yield refused

    def _of_outbox(self) -> Iterator[Metric]:
        if self._pump is None:
            return
        yield GaugeMetricFamily("spoke_tasks_outbox_held", "Claims that this replica holds.", self._pump.held)
        name = "spoke_tasks_outbox"
        yield probe_server.by_label(name, "What became of claims.", "event", asdict(self._pump.counts))
        if self._backlog:
            kept = self._backlog
            yield GaugeMetricFamily("spoke_tasks_outbox_due", "Due tasks that nobody holds.", kept["due"])
            text = "For how long the oldest of them has been due."
            yield GaugeMetricFamily("spoke_tasks_outbox_oldest_due_seconds", text, kept["oldest"])
            yield GaugeMetricFamily("spoke_tasks_outbox_failed", "Tasks kept that failed for good.", kept["failed"])
