"""The input of one decision, and facts that follow from a SpokeJob alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.contract.spokejob import SpokeJob, SpokeJobStatus
from spoke_jobs.contract.wait_reasons import Wait

from .actions import Action, ApplyStatus
from .admit import Candidate
from .api_objects import Job, Key, Pod, PodTemplate
from .diagnose import Event
from .refusals import Refusal


@dataclass(frozen=True, slots=True)
class Observed:
    """The complete input of one decision, except the time."""

    spokejob: SpokeJob
    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    events: tuple[Event, ...] = ()
    template: PodTemplate | None = None
    held: Wait | None = None
    """The lock or limit that prevents its next Job, if any."""
    live: bool = False
    """Whether the objects were just read live, so that a missing object does not exist."""
    refusal: Refusal | None = None
    made: int = 0
    """The newest attempt whose Job this process has created or adopted, even if that Job is missing now."""

    def write(self, updated: SpokeJobStatus) -> tuple[Action, ...]:
        """Return the action that writes this status; none if it equals the current one."""
        updated = updated.model_copy(update={"observed_generation": self.spokejob.generation})
        current = self.spokejob.status
        if updated == current:
            return ()
        # With Kueue a write is prompt: only a recorded run distinguishes a preempted Job from one that never started.
        by_kueue = any(job.suspended or job.released_at for job in self.jobs)
        return (ApplyStatus(updated, prompt=bool(current.cause) or by_kueue),)


def candidate_of(spokejob: SpokeJob) -> Candidate:
    """Return the fields of the SpokeJob that admission uses."""
    spec = spokejob.spec
    return Candidate(
        key=Key(spokejob.namespace, spokejob.name),
        priority=spec.priority,
        created_at=spokejob.created_at,
        queue=spec.queue,
        locks_queue=spec.locks_queue,
        organization=spec.organization,
    )


def wants_attempt(spokejob: SpokeJob, now: datetime) -> bool:
    """Whether the SpokeJob wants an attempt now, regardless of limits and locks."""
    due = spokejob.status.next_attempt_at
    return not (spokejob.deleting or spokejob.spec.suspend or spokejob.spec.cancel or (due and now < due))


def unrecorded(spokejob: SpokeJob, jobs: Iterable[Job]) -> list[Job]:
    """Return its Jobs that its status does not record yet, for example because an operator stopped in between."""
    return [job for job in jobs if job.owner == spokejob.uid and job.attempt > spokejob.status.attempt]
