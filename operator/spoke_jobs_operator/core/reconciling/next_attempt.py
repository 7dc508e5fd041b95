"""Decide whether the next attempt of a SpokeJob may start, by a chain of checks."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.advice import with_reason
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.executors import Lane
from spoke_jobs.contract.names import is_object_name, job_name
from spoke_jobs.contract.wait_reasons import FOR_A_PLACE, Wait, WaitReason
from spoke_jobs_operator.core.diagnosis.diagnose import LONGEST_WAIT
from spoke_jobs_operator.core.objects.api_objects import Job, PodTemplate
from spoke_jobs_operator.core.templates.build_job import build_job
from spoke_jobs_operator.core.templates.template_checks import check_template

from . import cleanup, status
from .actions import ApplyStatus, CheckAgain, CreateJob, Decision, ReadLive, ReadTemplate, Standing
from .observed import Observed


def next_attempt(seen: Observed, now: datetime) -> Decision:
    """Return the decision of the first check in :data:`CHECKS` that prevents the attempt, or create its Job."""
    for check in CHECKS:
        if (decision := check(seen, now)) is not None:
            return decision
    template = check_template(seen.spokejob, seen.template)
    assert isinstance(template, PodTemplate), "_template_is_unusable has checked it"
    number = seen.spokejob.status.attempt + 1
    if isinstance(seen.offer, Job):
        return _assign(seen, number, seen.offer, now)
    body = build_job(seen.spokejob, template, number, seen.limits)
    create = CreateJob(number, job_name(seen.spokejob.name, number), body)
    # The attempt is recorded at the next reconcile, not here. When many SpokeJobs arrive at once, all of them get their
    # Jobs before the first status is written. By then the pod may run, and one write records both facts.
    return Decision(Standing.HOLDS, (create,))


def _assign(seen: Observed, number: int, job: Job, now: datetime) -> Decision:
    """Assign the attempt to a standby pod. Unlike the attempt of a new Job, it is recorded first: nothing else says
    which attempt the pod is for."""
    spec = seen.spokejob.spec
    timeout = seen.limits.timeout_of(spec.timeout_seconds)
    started = status.attempt_started(
        seen.spokejob.status,
        number,
        job.meta.key.name,
        job.template,
        now,
        now,
        timeout if timeout != spec.timeout_seconds else None,
        lane=Lane.STANDBY,
    )
    updated = started.model_copy(update={"observed_generation": seen.spokejob.generation})
    return Decision(Standing.HOLDS, (ApplyStatus(updated, prompt=True),))


def without_place(seen: Observed, now: datetime) -> Decision:
    """Return the decision about a SpokeJob that has a Job, but no place under the limits."""
    decisions = (check(seen, now) for check in (_suspended, _backing_off, _has_no_place))
    return next((item for item in decisions if item is not None), Decision(Standing.WAITS))


def _suspended(seen: Observed, now: datetime) -> Decision | None:
    if not seen.spokejob.spec.suspend:
        return None
    waiting = status.held(seen.spokejob.status, Wait(WaitReason.SUSPENDED), now, blocked=False)
    return Decision(Standing.IDLE, seen.write(waiting))


def _backing_off(seen: Observed, now: datetime) -> Decision | None:
    current = seen.spokejob.status
    if current.next_attempt_at and now < current.next_attempt_at:
        return Decision(Standing.IDLE, (*seen.write(current), CheckAgain.at(current.next_attempt_at, now)))
    return None


def _earlier_attempt_runs(seen: Observed, now: datetime) -> Decision | None:
    current = seen.spokejob.status
    if wait := cleanup.until_nothing_runs(current, seen.jobs, seen.pods, now):
        return Decision(Standing.IDLE, (*seen.write(current), CheckAgain(wait)))
    return None


def _template_name_is_impossible(seen: Observed, now: datetime) -> Decision | None:
    name = seen.spokejob.spec.pod_template
    if is_object_name(name):
        return None
    # The CRD refuses such a name now, but the SpokeJob was created under an earlier one. Its spec can't be corrected,
    # because it is immutable.
    text = f"podTemplate {name!r} can't be an object's name"
    final = status.finished(
        seen.spokejob.status, Cause.TEMPLATE_MISSING, now, text, job_id=seen.spokejob.spec.request_id
    )
    return Decision(Standing.FINISHED, seen.write(final))


def _template_is_unusable(seen: Observed, now: datetime) -> Decision | None:
    template = check_template(seen.spokejob, seen.template)
    if not isinstance(template, Wait):
        return None
    # Thousands of SpokeJobs may name the same template, so it is read once for all of them.
    return _blocked(seen, template, now, read_first=None if seen.template_live else ReadTemplate())


def _job_was_refused(seen: Observed, now: datetime) -> Decision | None:
    if seen.refusal and not seen.refusal.is_over(now):
        if seen.refusal.wait.code == WaitReason.WEBHOOK_AWAY:
            return _webhook_is_away(seen, seen.refusal.wait, now, Standing.IDLE, seen.refusal.retry_at)
        if seen.refusal.wait.code == WaitReason.QUOTA_EXCEEDED:  # nobody's fault: no timeout counts
            waiting = status.held(seen.spokejob.status, seen.refusal.wait, now, blocked=False)
            return Decision(Standing.IDLE, (*seen.write(waiting), CheckAgain.at(seen.refusal.retry_at, now)))
        first = None if seen.live else ReadLive()
        decision = _blocked(seen, seen.refusal.wait, now, seen.refusal.retry_at, read_first=first)
        of_content = decision.standing is Standing.IDLE and seen.refusal.wait.code != Cause.NAME_TAKEN
        return replace(decision, rejected=seen.refusal.wait if of_content else None)
    return None


def _webhook_is_away(
    seen: Observed, wait: Wait, now: datetime, standing: Standing, retry_at: datetime | None = None
) -> Decision:
    """Wait for the webhook. That it is away is not the job's fault, so no start timeout counts this time.

    :param retry_at: when this SpokeJob tries again; None if admission decides that.
    """
    current = seen.spokejob.status
    waits = current.waiting is not None and current.waiting.code == WaitReason.WEBHOOK_AWAY
    since = current.waiting.since if current.waiting and waits else None
    start_timeout = timedelta(seconds=seen.spokejob.spec.start_timeout_seconds)
    ends_at = (since or now) + max(LONGEST_WAIT, start_timeout)
    if now >= ends_at:
        message = with_reason(wait.code, wait_text.sentence(wait))
        job_id = seen.spokejob.spec.request_id
        final = status.finished(current, Cause.START_TIMEOUT, now, message, job_id=job_id, reason=wait.code)
        return Decision(Standing.FINISHED, seen.write(final))
    waiting = status.held(current, replace(wait, since=since, ends_at=ends_at), now, blocked=False)
    check_at = min(ends_at, retry_at or ends_at)
    return Decision(standing, (*seen.write(waiting, may_wait=_waited_for_a_place(seen)), CheckAgain.at(check_at, now)))


def _has_no_place(seen: Observed, now: datetime) -> Decision | None:
    if not (held := seen.held):
        return None
    retries = status.blocked_since(seen.spokejob.status) is not None
    # A short wait is not worth a write. Between two tries of a rejected Job it would also restart the start timeout.
    if not held.code or (retries and held.code == WaitReason.START_LIMIT_REACHED):
        return Decision(Standing.WAITS)
    if held.code == WaitReason.WEBHOOK_AWAY:
        return _webhook_is_away(seen, held, now, Standing.WAITS)
    current = seen.spokejob.status
    waiting = status.held(current, held, now, blocked=False)
    may_wait = held.code in FOR_A_PLACE and _waited_for_a_place(seen)
    return Decision(Standing.WAITS, seen.write(waiting, may_wait=may_wait))


def _waited_for_a_place(seen: Observed) -> bool:
    """Whether the SpokeJob waited for a place before.

    When a limit changes, the reasons of thousands of waiting jobs may change, so these writes are throttled.
    """
    waiting = seen.spokejob.status.waiting
    return waiting is not None and waiting.code in FOR_A_PLACE


CHECKS = (
    _suspended,
    _backing_off,
    _earlier_attempt_runs,
    _template_name_is_impossible,
    _template_is_unusable,
    _job_was_refused,
    _has_no_place,
)


def _blocked(
    seen: Observed,
    wait: Wait,
    now: datetime,
    retry_at: datetime | None = None,
    *,
    read_first: ReadLive | ReadTemplate | None,
) -> Decision:
    """Wait until an obstacle is fixed, at most until the start timeout.

    :param retry_at: when to try again, if no event reports that the obstacle is gone.
    :param read_first: what to read before the first decision of the wait, because the cache may still be incomplete.
    """
    current = seen.spokejob.status
    since = status.blocked_since(current)
    if since is None and read_first:
        return Decision(Standing.IDLE, (read_first,))
    deadline = (since or now) + timedelta(seconds=seen.spokejob.spec.start_timeout_seconds)
    if now >= deadline:
        job_id = seen.spokejob.spec.request_id
        final = status.finished(current, wait.code, now, wait_text.sentence(wait), job_id=job_id)
        return Decision(Standing.FINISHED, seen.write(final))
    actions = seen.write(status.held(current, wait, now, blocked=True))
    return Decision(Standing.IDLE, (*actions, CheckAgain.at(min(deadline, retry_at or deadline), now)))
