"""Report what a status write stands for: in metrics, in the log, and as Kubernetes Events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, Outcome, SpokeJob, SpokeJobStatus
from spoke_jobs.contract.trace_context import trace_id_of
from spoke_jobs_operator.core.objects.api_objects import Key, Terminated, Unreadable
from spoke_jobs_operator.core.reconciling.status import newly_ended
from spoke_jobs_operator.core.reporting.job_events import JobEvent, job_events
from spoke_jobs_operator.core.reporting.job_spans import JobSpan, job_spans
from spoke_jobs_operator.core.standby.assignment import ran_seconds
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics
from spoke_jobs_operator.shell.store.store import Store, key_of

from .event_recorder import About

RecordEvents = Callable[[About, tuple[JobEvent, ...]], None]
"""Queues Events about a SpokeJob. It must not wait."""
RecordSpans = Callable[[SpokeJob, tuple[JobSpan, ...]], None]
"""Queues spans of a SpokeJob. It must not wait."""
logger = logging.getLogger(__name__)


class StatusReports:
    """The reports of the status writes that the API server accepted.

    :param clock: returns the current time.
    :param record_spans: None if traces are off.
    """

    def __init__(
        self,
        store: Store,
        metrics: OperatorMetrics,
        clock: Callable[[], datetime],
        record: RecordEvents,
        record_spans: RecordSpans | None = None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._record = record
        self._record_spans = record_spans
        self._seen_to_run: dict[Key, str] = {}

    def decided(self, spokejob: SpokeJob, new: SpokeJobStatus) -> None:
        """Measure when the first attempt is observed running; the status may show it later, or never."""
        key = key_of(spokejob)
        runs = new.outcome is Outcome.RUNNING and spokejob.status.outcome is not Outcome.RUNNING and new.attempt == 1
        if runs and self._seen_to_run.get(key) != spokejob.uid:
            self._seen_to_run[key] = spokejob.uid
            self._metrics.jobs.started(spokejob, (self._clock() - spokejob.created_at).total_seconds())

    def written(self, spokejob: SpokeJob, new: SpokeJobStatus) -> None:
        """Report a status that was written. An error in a report is logged: the write must not be repeated for it."""
        try:
            self._written(spokejob, new)
        except Exception:
            logger.exception("a status write could not be reported", extra=log_fields(spokejob))

    def _written(self, spokejob: SpokeJob, new: SpokeJobStatus) -> None:
        old = spokejob.status
        self._record(About(key_of(spokejob), spokejob.uid), job_events(old, new))
        if self._record_spans is not None and spokejob.spec.traceparent:
            self._record_spans(spokejob, job_spans(spokejob, new, self._store.pods.of(key_of(spokejob))))
        for record in newly_ended(old, new):
            if record.cause:
                self._metrics.jobs.attempt_failed(spokejob, record.cause)
            self._observe_run(spokejob, record)
            logger.info("attempt %d ended: %s", record.number, record.cause or "Succeeded", extra=log_fields(spokejob))
        if new.outcome and new.is_final and new.outcome != old.outcome:
            self._seen_to_run.pop(key_of(spokejob), None)
            self._metrics.jobs.finished(spokejob, new.outcome, new.cause)
            logger.info("finished: %s", new.cause or new.outcome.value, extra=log_fields(spokejob))

    def ended_unreadable(self, item: Unreadable, new: SpokeJobStatus) -> None:
        """Report the end of a SpokeJob that can't be read."""
        logger.warning("finished: %s: not readable: %s", new.cause, item.problem, extra={"spokejob": str(item.key)})
        self._record(About(item.key, item.uid), job_events(SpokeJobStatus(), new))
        self._metrics.jobs.unreadable_finished(item.key.namespace, new.cause)

    def forget(self, key: Key) -> None:
        """Forget a SpokeJob that is deleted."""
        self._seen_to_run.pop(key, None)

    def _observe_run(self, spokejob: SpokeJob, record: AttemptStatus) -> None:
        for pod in self._store.pods.of(key_of(spokejob)):
            ended = pod.container
            if pod.attempt != record.number or not isinstance(ended, Terminated):
                continue
            if (seconds := ran_seconds(record, ended)) is not None:
                self._metrics.jobs.ran(spokejob, seconds)


def log_fields(spokejob: SpokeJob) -> dict[str, object]:
    """Return the fields for log lines about this SpokeJob."""
    fields = {
        "spokejob": str(key_of(spokejob)),
        "request_id": spokejob.spec.request_id,
        "job_type": spokejob.spec.job_type,
    }
    trace_id = trace_id_of(spokejob.spec.traceparent)
    return fields | {"trace_id": trace_id} if trace_id else fields
