"""Who looks at the dashboard, and what they may see and do. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from spoke_jobs.contract.advice import failed_group_advice
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.wait_reasons import REASONS, WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.groups import Group
from spoke_jobs.explain.reasons import Explanation, Reason
from spoke_jobs.explain.words import agreeing
from spoke_jobs.ledger.audit.audit_events import Action, Event
from spoke_jobs.ledger.reading.situations import Situation
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow
from spoke_jobs.model import ANY_JOB, JobFilter, JobRequest


class JobAction(StrEnum):
    """What somebody may do to jobs."""

    CANCEL = "cancel"
    RETRY = "retry"
    """Retry jobs and, for those who see all jobs, tasks of the outbox."""
    START = "start"
    """Change when waiting jobs start. Only those who see all jobs change priorities."""
    LIMIT = "limit"
    """Set limits, pause and resume. Only for those who see all jobs."""
    SCHEDULE = "schedule"
    """Pause and resume schedules, run their jobs now, and backfill them."""
    MUTE = "mute"
    """Mute failures, and end mutes. Only for those who see all jobs."""

    @property
    def phrase(self) -> str:
        """Return what one may do, as in ``cancel jobs``."""
        return _PHRASES[self]


_PHRASES = {
    JobAction.CANCEL: "cancel jobs",
    JobAction.RETRY: "retry jobs",
    JobAction.START: "change when jobs start",
    JobAction.LIMIT: "change limits and pauses",
    JobAction.SCHEDULE: "change and run schedules",
    JobAction.MUTE: "mute failures",
}


ALL_ACTIONS = frozenset(JobAction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Somebody who may look at the dashboard. By default they see no job."""

    name: str
    """Who it is. Actions are recorded under this name."""
    actions: frozenset[JobAction] = frozenset()
    organizations: frozenset[int] | None = frozenset()
    """The organizations whose jobs they see; None: all jobs, also those of no organization."""
    may_see_payloads: bool = False
    """Whether they see payloads and results."""
    may_see_output: bool = True
    """Whether they see tracebacks and what jobs print."""

    @property
    def sees_all(self) -> bool:
        """Whether they see the jobs of all organizations."""
        return self.organizations is None

    @property
    def changes_limits(self) -> bool:
        """Whether they may change limits and pauses, which concern the jobs of all organizations."""
        return self.sees_all and JobAction.LIMIT in self.actions

    @property
    def changes_priorities(self) -> bool:
        """Whether they may change priorities: a job of a higher one starts before those of other organizations."""
        return self.sees_all and JobAction.START in self.actions

    def read_only(self) -> Self:
        """Return the same viewer without actions."""
        return replace(self, actions=frozenset())

    def narrowed(self, which: JobFilter = ANY_JOB) -> JobFilter:
        """Return the filter for those of the jobs that they may see."""
        return which.evolve(organizations=self.organizations)


_ABOUT_THE_JOB_ALONE = frozenset(
    {
        *(WaitReason.DUE_LATER, WaitReason.ASKED_LATER, WaitReason.BACKING_OFF, WaitReason.TAKEN, WaitReason.NEXT),
        *(WaitReason.NOT_SUBMITTED, WaitReason.SUBMITTED, WaitReason.SPOKEJOB_GONE, WaitReason.PAUSED),
        *(WaitReason.SUSPENDED, WaitReason.NOT_CLAIMABLE),
    }
)
"""Reasons to wait whose texts say nothing about other jobs."""
_STATES_ALONE = frozenset(
    {
        *(Code.START_BY, Code.RUNNING, Code.CANCELLING, Code.LEASE_LAPSED, Code.MOVED, Code.MOVES),
        *(Code.STANDBY, Code.CLUSTER_UNKNOWN, Code.SUCCEEDED, Code.FAILED),
    }
)
"""The same of codes that are no reasons to wait."""
STANDS_IN_THE_WAY = "Another job stands in its way."
"""In place of an error that names a job which a viewer may not see."""
_OTHER_JOBS = "The rest concerns jobs that you may not see."


def sees_schedule(row: ScheduleRow, viewer: Viewer) -> bool:
    """Whether the viewer may see a schedule: all its jobs are theirs."""
    return viewer.organizations is None or row.organization_id in viewer.organizations


def shown_schedule(row: ScheduleRow, viewer: Viewer) -> ScheduleRow:
    """Return the schedule without the ids of other jobs, and without texts that may hold values of payloads."""
    skip = row.last_skip
    if skip is not None and not viewer.sees_all:
        skip = replace(skip, job_id=None)
    if viewer.may_see_payloads:
        return replace(row, last_skip=skip)
    hidden = "its job could not be made (you may not see payloads, which the reason may hold)"
    if skip is not None and skip.detail:
        skip = replace(skip, detail=hidden)
    return replace(row, last_skip=skip, error=hidden if row.error else "")


def shown_event(event: Event, viewer: Viewer) -> Event:
    """Return the event without a detail that may count jobs of others, or may hold values of a payload."""
    shows = viewer.sees_all and (event.action != Action.FAIL_SCHEDULE or viewer.may_see_payloads)
    return event if shows else replace(event, detail="")


def shown_job(job: JobRequest, viewer: Viewer) -> JobRequest:
    """Return the job without a message that names a job of another organization."""
    if viewer.sees_all or job.cause != Cause.DEPENDENCY_FAILED:
        return job
    return job.evolve(result_message=Cause.DEPENDENCY_FAILED.meaning)


def shown_situation(situation: Situation, viewer: Viewer) -> Situation:
    """Return the job's situation without a failed batch, which may hold jobs of other organizations."""
    batch = situation.failed_batch if viewer.sees_all else None
    return replace(situation, job=shown_job(situation.job, viewer), failed_batch=batch)


def shown_reason(reason: Reason, viewer: Viewer) -> Reason:
    """Return the reason, with a general text if its own may name or count jobs of other organizations."""
    if viewer.sees_all:
        return reason
    alone = reason.waits_for in _ABOUT_THE_JOB_ALONE if reason.waits_for else reason.code in _STATES_ALONE
    if alone:  # the sentence of a pause does not say how many jobs run, but the reason has their number
        return replace(reason, job_id=None, number=None)
    text = reason.waits_for.meaning if reason.waits_for else _OTHER_JOBS
    return Reason(reason.code, text, until=reason.until, waits_for=reason.waits_for)


def shown_explanation(explanation: Explanation, viewer: Viewer) -> Explanation:
    """Return the explanation with each reason likewise, and without output that the viewer may not see."""
    reasons = tuple(dict.fromkeys(shown_reason(reason, viewer) for reason in explanation.reasons))
    return Explanation(reasons, explanation.output_tail if viewer.may_see_output else "")


def shown_group(group: Group, viewer: Viewer) -> Group:
    """Return the group of jobs, likewise. Failed jobs are grouped from those that the viewer may see."""
    if group.reason == Cause.DEPENDENCY_FAILED and not viewer.sees_all:  # the message and the advice name others
        advice = failed_group_advice(group.reason, group.fingerprint, group.job_id or 0)
        return replace(group, message="", advice=advice, batch_id=None)
    if viewer.sees_all or group.state == "failed" or group.name in _ABOUT_THE_JOB_ALONE:
        return group
    reason = REASONS.get(group.name)
    wait = agreeing(group.count, "waits", "wait")
    text = f"{wait}: {reason.meaning}" if reason else wait
    return replace(group, text=text, advice="", wait=None, scope="", holder_id=None, where=())
