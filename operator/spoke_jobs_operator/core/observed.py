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
    """All that one decision depends on, besides time."""

    spokejob: SpokeJob
    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    events: tuple[Event, ...] = ()
    template: PodTemplate | None = None
    held: Wait | None = None
    """What keeps it from having a Job, if locks or limits do."""
    live: bool = False
    """Whether the objects were read from the API server just now, so that what isn't here isn't there."""
    refusal: Refusal | None = None
    made: int = 0
    """The newest attempt whose Job this process has made, or taken over: it was there, whatever is seen now."""

    def write(self, updated: SpokeJobStatus) -> tuple[Action, ...]:
        """Write this status, if it differs from the current one."""
        updated = updated.model_copy(update={"observed_generation": self.spokejob.generation})
        current = self.spokejob.status
        if updated == current:
            return ()
        # Whether the pod ran is what tells a Job that Kueue holds back again from one that it never released.
        by_kueue = any(job.suspended or job.released_at for job in self.jobs)
        return (ApplyStatus(updated, prompt=bool(current.cause) or by_kueue),)


def candidate_of(spokejob: SpokeJob) -> Candidate:
    """A SpokeJob as admission sees it."""
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
    """Whether, by what it says itself, it would start now if limits and locks let it."""
    due = spokejob.status.next_attempt_at
    return not (spokejob.deleting or spokejob.spec.suspend or spokejob.spec.cancel or (due and now < due))


def unrecorded(spokejob: SpokeJob, jobs: Iterable[Job]) -> list[Job]:
    """Its Jobs that its status doesn't tell of: just made, or by an operator that died, or lost its lead, then."""
    return [job for job in jobs if job.owner == spokejob.uid and job.attempt > spokejob.status.attempt]
