"""What one decision depends on, and what a SpokeJob says of itself."""

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
    """All that one decision depends on, except the time."""

    spokejob: SpokeJob
    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    events: tuple[Event, ...] = ()
    template: PodTemplate | None = None
    held: Wait | None = None
    """The lock or limit that prevents its next Job; None if none does."""
    live: bool = False
    """Whether the objects were read from the API server just now, so that a missing object does not exist."""
    refusal: Refusal | None = None
    made: int = 0
    """The newest attempt whose Job this process has created or adopted: it existed, whatever is seen now."""

    def write(self, updated: SpokeJobStatus) -> tuple[Action, ...]:
        """Write this status, if it differs from the current one."""
        updated = updated.model_copy(update={"observed_generation": self.spokejob.generation})
        current = self.spokejob.status
        if updated == current:
            return ()
        # For Kueue a write is prompt: only a recorded run tells a preempted Job from one that was never released.
        by_kueue = any(job.suspended or job.released_at for job in self.jobs)
        return (ApplyStatus(updated, prompt=bool(current.cause) or by_kueue),)


def candidate_of(spokejob: SpokeJob) -> Candidate:
    """Return the SpokeJob as admission sees it."""
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
    """Whether the SpokeJob itself asks for an attempt now; limits and locks are not considered."""
    due = spokejob.status.next_attempt_at
    return not (spokejob.deleting or spokejob.spec.suspend or spokejob.spec.cancel or (due and now < due))


def unrecorded(spokejob: SpokeJob, jobs: Iterable[Job]) -> list[Job]:
    """Return its Jobs that its status does not record yet: new ones, or ones of an operator that stopped right then."""
    return [job for job in jobs if job.owner == spokejob.uid and job.attempt > spokejob.status.attempt]
