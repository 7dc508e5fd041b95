"""The task server's figures in Prometheus's text format."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from spoke_jobs.contract.causes import TaskCause
from spoke_jobs.process import probe_server
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

    async def __call__(self) -> str:
        """All lines."""
        if self._pump is not None and time.monotonic() - self._looked_at > _FRESH_SECONDS:
            self._looked_at = time.monotonic()
            try:
                self._backlog = await asyncio.to_thread(self._pump.backlog)
            except Exception:  # the database is away: the other figures are wanted all the more
                self._backlog = {}
        return "\n".join([*self._of_engine(), *self._of_gate(), *self._of_outbox()]) + "\n"

    def _of_engine(self) -> Iterator[str]:
        engine, counts = self._engine, self._engine.counts
        yield from _metric("unfinished", "gauge", "Accepted tasks that have not ended.", engine.unfinished)
        yield from _metric("queued", "gauge", "Accepted tasks that have not begun.", engine.queued)
        yield from _metric("running", "gauge", "Slots in use.", engine.running)
        yield from _metric("slots", "gauge", "Slots for `def` tasks, and as many for `async def` ones.", self._slots)
        yield from _metric("slots_hung", "gauge", "Slots held by tasks beyond their timeout.", engine.hung)
        yield from _metric("accepted_total", "counter", "Tasks accepted.", counts.accepted)
        yield from _metric("joined_total", "counter", "Redeliveries of tasks that were here.", counts.joined)
        yield from _metric("recalled_total", "counter", "Redeliveries of tasks that had ended here.", counts.recalled)
        name = "spoke_tasks_refused_total"
        text = "Tasks failed for good without being run here, by cause."
        yield from probe_server.labelled(name, "counter", text, "cause", self._refused())
        yield from _metric(
            "timed_out_total", "counter", "Tasks given up, as they did not end in time.", counts.timed_out
        )
        name = "spoke_tasks_ended_total"
        ended = {outcome.value: count for outcome, count in counts.ended.items()}
        yield from probe_server.labelled(name, "counter", "Tasks by how they ended.", "outcome", ended)
        yield from counts.waited.lines("spoke_tasks_wait_seconds", "From a task's dispatch to its start.")
        yield from counts.ran.lines("spoke_tasks_run_seconds", "From a task's start to its end.")

    def _refused(self) -> Mapping[str, int]:
        """Each cause from the start: of a count that begins with its first one an alarm sees no increase."""
        refused = Counter({cause.value: count for cause, count in self._engine.counts.refused.items()})
        if self._pump is not None:
            refused[TaskCause.UNKNOWN_TASK.value] += self._pump.counts.unknown
            refused[TaskCause.WORKER_LOST.value] += self._pump.counts.worker_lost
        return refused

    def _of_gate(self) -> Iterator[str]:
        gate = self._gate
        yield from _metric("draining", "gauge", "1 while the replica is stopping.", gate.draining)
        yield from _metric("requests_total", "counter", "Requests with tasks that were taken.", gate.requests)
        name = "spoke_tasks_requests_refused_total"
        yield f"# HELP {name} Requests turned away, by status and reason."
        yield f"# TYPE {name} counter"
        for (status, reason), count in sorted(gate.refused.items()):
            yield f'{name}{{status="{status}",reason="{reason}"}} {count}'

    def _of_outbox(self) -> Iterator[str]:
        if self._pump is None:
            return
        yield from _metric("outbox_held", "gauge", "Claims that this replica holds.", self._pump.held)
        name = "spoke_tasks_outbox_total"
        yield from probe_server.labelled(name, "counter", "What became of claims.", "event", asdict(self._pump.counts))
        if self._backlog:
            kept = self._backlog
            yield from _metric("outbox_due", "gauge", "Due tasks that nobody holds.", kept["due"])
            text = "For how long the oldest of them has been due."
            yield from _metric("outbox_oldest_due_seconds", "gauge", text, kept["oldest"])
            yield from _metric("outbox_failed", "gauge", "Tasks kept that failed for good.", kept["failed"])


def _metric(name: str, kind: str, text: str, value: float) -> Iterator[str]:
    return probe_server.metric(f"spoke_tasks_{name}", kind, text, value)
