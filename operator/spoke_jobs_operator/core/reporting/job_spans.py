"""Derive what a trace shows of an attempt's way into its pod, from two statuses and the attempt's pod. Pure.

Like the Events, these spans follow an accepted status write, so that no restart repeats one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, SpokeJob, SpokeJobStatus
from spoke_jobs_operator.core.objects.api_objects import Pod, Terminated
from spoke_jobs_operator.core.reconciling.status import newly_ended
from spoke_jobs_operator.core.standby.assignment import is_assigned, runs_since


class SpanName(StrEnum):
    """The names of spans. No part of a SpokeJob is in them, so that there are few."""

    ADMIT = "admit"
    """From the time when the attempt was due until its Job was created, or a standby pod was assigned to it: limits,
    turns, quotas, room."""
    SCHEDULE_POD = "schedule pod"
    """From the Job's creation until the pod got its node."""
    START_POD = "start pod"
    """From then until the job's container started: volumes, images, init containers."""
    RUN_POD = "run pod"
    """The run of the job's container; in a standby pod, from the assignment on."""


@dataclass(frozen=True, slots=True)
class JobSpan:
    """A period in the life of an attempt."""

    name: SpanName
    begins: datetime
    ends: datetime
    attributes: Mapping[str, str | int]
    cause: str = ""
    """Why the attempt failed; empty if it did not, and for spans before its end."""


def job_spans(spokejob: SpokeJob, new: SpokeJobStatus, pods: Iterable[Pod]) -> tuple[JobSpan, ...]:
    """Return the spans that a change of the status ends.

    :param spokejob: as it was before the change.
    :param pods: the pods of the SpokeJob that still exist.
    """
    old = spokejob.status
    started = (_admission(spokejob, record) for record in new.attempts if record.number > old.attempt)
    ended = (span for record in newly_ended(old, new) for span in _way_of(spokejob, record, pods))
    return tuple(span for span in (*started, *ended) if span is not None)


def _admission(spokejob: SpokeJob, record: AttemptStatus) -> JobSpan | None:
    old = spokejob.status
    if record.started_at is None:
        return None
    earlier = max((item.finished_at for item in old.attempts if item.finished_at), default=spokejob.created_at)
    due = max(earlier, old.next_attempt_at or earlier)
    return _span(SpanName.ADMIT, due, record.started_at, _attributes(spokejob, record))


def _way_of(spokejob: SpokeJob, record: AttemptStatus, pods: Iterable[Pod]) -> Iterator[JobSpan]:
    """Yield the spans of an attempt that has ended, as far as its pod still says when they were."""
    pod = next((item for item in pods if item.attempt == record.number), None)
    if pod is None:
        return
    attributes = _attributes(spokejob, record) | {"k8s.pod.name": pod.meta.key.name}
    if pod.node:
        attributes["k8s.node.name"] = pod.node
    created, container = record.started_at, pod.container
    scheduled = None if is_assigned(record) else pod.scheduled_at  # a standby pod was there before the attempt
    if created is not None and scheduled is not None:
        yield _span(SpanName.SCHEDULE_POD, created, scheduled, attributes)
    runs = pod.container_began
    if runs is None:
        return
    if scheduled is not None:
        yield _span(SpanName.START_POD, scheduled, runs, attributes)
    runs = runs_since(record, runs)
    ends = container.ended_at if isinstance(container, Terminated) else None
    if (end := ends or record.finished_at) is not None:
        yield _span(SpanName.RUN_POD, runs, end, attributes, record.cause)


def _span(
    name: SpanName, begins: datetime, ends: datetime, attributes: Mapping[str, str | int], cause: str = ""
) -> JobSpan:
    """Make a span. The clocks of nodes differ, and many times are whole seconds: a span does not end before it begins.

    :param cause: why it failed; empty if it did not.
    """
    return JobSpan(name, begins, max(begins, ends), attributes, cause)


def _attributes(spokejob: SpokeJob, record: AttemptStatus) -> dict[str, str | int]:
    spec = spokejob.spec
    return {
        "messaging.system": "spoke_jobs",
        "messaging.destination.name": spec.job_type,
        "messaging.message.id": str(spec.uid),
        "messaging.spoke_jobs.job_id": spec.request_id,
        "messaging.spoke_jobs.run": spec.run,
        "messaging.spoke_jobs.attempt": record.number,
        "k8s.namespace.name": spokejob.namespace,
        "k8s.job.name": record.job,
    }
