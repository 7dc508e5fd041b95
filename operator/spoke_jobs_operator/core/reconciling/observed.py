"""The input of one decision, and facts that follow from a SpokeJob alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.contract.custom_resources.spokejob import SpokeJob, SpokeJobStatus
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.names import job_name
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.admission.admit import Candidate
from spoke_jobs_operator.core.diagnosis.refusals import Refusal
from spoke_jobs_operator.core.limits.limits import UNLIMITED, NamespaceLimits
from spoke_jobs_operator.core.objects.api_objects import Job, Key, Pod, PodTemplate, WarningEvent
from spoke_jobs_operator.core.obstacles.holds import REFUSALS
from spoke_jobs_operator.core.obstacles.room import Group
from spoke_jobs_operator.core.standby.assignment import Handover
from spoke_jobs_operator.core.standby.standby_offer import Miss, may_take_one

from .actions import Action, ApplyStatus


@dataclass(frozen=True, slots=True)
class Observed:
    """The complete input of one decision, except the time."""

    spokejob: SpokeJob
    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    events: tuple[WarningEvent, ...] = ()
    template: PodTemplate | None = None
    held: Wait | None = None
    """The lock or limit that prevents the SpokeJob's next Job, if any."""
    limits: NamespaceLimits = UNLIMITED
    """The limits of the SpokeJob's namespace."""
    others_wait: bool = False
    """Whether other SpokeJobs wait for their turn. Writes that say little are then left out."""
    live: bool = False
    """Whether the objects were just read live, so that a missing object does not exist."""
    template_live: bool = False
    """Whether the PodTemplate, or that it is missing, was read live a moment ago."""
    refusal: Refusal | None = None
    observed_since: datetime | None = None
    """Since when this operator leads."""
    followed: bool = False
    """Whether the SpokeJob of the job's next run exists, which a retry by hand starts."""
    made: int = 0
    """The newest attempt whose Job this process has created or adopted, even if that Job is missing now."""

    offer: Job | Miss | None = None
    """The Job of the standby pod that the next attempt may use, or why there is none; None for another lane."""
    handover: Handover | None = None
    """How far the open attempt is handed over to the standby pod that it was assigned to; None if it was to none."""

    surplus: frozenset[str] = frozenset()
    """The uids of the SpokeJob's kept Jobs to delete, because too many are kept in the namespace."""

    def write(self, updated: SpokeJobStatus, *, may_wait: bool = False) -> tuple[Action, ...]:
        """Return the action that writes this status; none if it equals the current one.

        :param may_wait: whether the write may be delayed, although it changes what the SpokeJob waits for.
        """
        updated = updated.model_copy(update={"observed_generation": self.spokejob.generation})
        current = self.spokejob.status
        if updated == current:
            return ()
        # With Kueue, write at once. A preempted Job looks like one that never started, unless the status has its run.
        by_kueue = any(job.suspended or job.released_at for job in self.jobs)
        return (ApplyStatus(updated, prompt=not may_wait and (bool(current.cause) or by_kueue), minor=may_wait),)


def candidate_of(spokejob: SpokeJob) -> Candidate:
    """Return the fields of the SpokeJob that admission uses."""
    spec = spokejob.spec
    return Candidate(
        key=Key(spokejob.namespace, spokejob.name),
        priority=spec.priority,
        created_at=spokejob.created_at,
        subject=Subject.of_spec(spec),
        locks_queue=spec.locks_queue,
        template=spec.pod_template,
        request_id=spec.request_id,
        standby=may_take_one(spokejob),
    )


def wants_attempt(spokejob: SpokeJob, now: datetime) -> bool:
    """Whether the SpokeJob wants an attempt now, regardless of limits and locks."""
    due = spokejob.status.next_attempt_at
    return not (spokejob.deleting or spokejob.spec.suspend or spokejob.spec.cancel or (due and now < due))


def holds_shown(spokejob: SpokeJob) -> list[tuple[Group, Wait]]:
    """Return the hold that the SpokeJob's status shows and that a new leader continues; empty if it shows none."""
    wait = spokejob.status.waiting
    if wait is None or wait.code not in (WaitReason.DATABASE_AWAY, *REFUSALS):
        return []
    said = next((item.message for item in spokejob.status.conditions if item.reason == wait.code), "")
    detail = said if wait.code == WaitReason.WEBHOOK_AWAY else ""  # no field names the webhook
    return [(candidate_of(spokejob).group, wait.to_wait(detail=detail))]


def unrecorded(spokejob: SpokeJob, jobs: Iterable[Job]) -> list[Job]:
    """Return the SpokeJob's Jobs that its status does not record yet, as when an operator stopped before the write."""
    return [job for job in jobs if job.attempt > spokejob.status.attempt and is_an_attempt_of(spokejob, job)]


def orphaned(key: Key, jobs: Iterable[Job]) -> list[Job]:
    """Return the Jobs of a SpokeJob's attempts that have no owner any more.

    Somebody has deleted the SpokeJob with ``--cascade=orphan``. Nothing else deletes these Jobs.
    """
    return [
        job
        for job in jobs
        if not job.owner
        and job.starts_one_pod
        and (job.standby is not None or job.meta.key.name == job_name(key.name, job.attempt))
    ]


def is_an_attempt_of(spokejob: SpokeJob, job: Job) -> bool:
    """Whether the operator has made the Job for the SpokeJob, as far as owner, name and number of pods show.

    Whoever may create Jobs in the namespace can make one that looks the same.
    """
    name = job_name(spokejob.name, job.attempt)
    return job.owner == spokejob.uid and job.starts_one_pod and job.meta.key.name == name
