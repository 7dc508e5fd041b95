"""Decide whether the next attempt of a SpokeJob may start, by a chain of checks."""

from __future__ import annotations

from datetime import datetime, timedelta

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.names import job_name
from spoke_jobs.contract.wait_reasons import Wait, WaitReason

from . import cleanup, status
from .actions import CheckAgain, CreateJob, Decision, ReadLive, Standing
from .api_objects import PodTemplate
from .build_job import build_job, check_template, is_template_name
from .observed import Observed


def next_attempt(seen: Observed, now: datetime) -> Decision:
    """Return the decision of the first of :data:`CHECKS` that objects; if none does, create the attempt's Job."""
    for check in CHECKS:
        if (decision := check(seen, now)) is not None:
            return decision
    template = check_template(seen.spokejob, seen.template)
    assert isinstance(template, PodTemplate), "_template_is_unusable has checked it"
    number = seen.spokejob.status.attempt + 1
    create = CreateJob(number, job_name(seen.spokejob.name, number), build_job(seen.spokejob, template, number))
    # The attempt is recorded at the next reconcile. When many SpokeJobs come at once, all get their Jobs first, and one
    # write can record both the attempt and its state.
    return Decision(Standing.HOLDS, (create,))


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
    if is_template_name(name):
        return None
    # The SpokeJob is older than the CRD, which refuses such a name. It can't be fixed: the spec is immutable.
    text = f"podTemplate {name!r} can't be an object's name"
    final = status.finished(seen.spokejob.status, Cause.TEMPLATE_MISSING, now, text)
    return Decision(Standing.FINISHED, seen.write(final))


def _template_is_unusable(seen: Observed, now: datetime) -> Decision | None:
    template = check_template(seen.spokejob, seen.template)
    return _blocked(seen, template, now) if isinstance(template, Wait) else None


def _job_was_refused(seen: Observed, now: datetime) -> Decision | None:
    if seen.refusal and not seen.refusal.is_over(now):
        return _blocked(seen, seen.refusal.wait, now, seen.refusal.retry_at)
    return None


def _has_no_place(seen: Observed, now: datetime) -> Decision | None:
    if not (held := seen.held):
        return None
    current = seen.spokejob.status
    waiting = status.held(current, held, now, blocked=False) if held.code else current
    return Decision(Standing.WAITS, seen.write(waiting))


CHECKS = (
    _suspended,
    _backing_off,
    _earlier_attempt_runs,
    _template_name_is_impossible,
    _template_is_unusable,
    _job_was_refused,
    _has_no_place,
)


def _blocked(seen: Observed, wait: Wait, now: datetime, retry_at: datetime | None = None) -> Decision:
    """Wait until an obstacle is fixed, at most until the start timeout.

    :param retry_at: when to try again, if no event reports that the obstacle is gone.
    """
    current = seen.spokejob.status
    since = status.blocked_since(current)
    if since is None and not seen.live:  # the cache may still be incomplete
        return Decision(Standing.IDLE, (ReadLive(),))
    deadline = (since or now) + timedelta(seconds=seen.spokejob.spec.start_timeout_seconds)
    if now >= deadline:
        final = status.finished(current, wait.code, now, wait_text.sentence(wait))
        return Decision(Standing.FINISHED, seen.write(final))
    actions = seen.write(status.held(current, wait, now, blocked=True))
    return Decision(Standing.IDLE, (*actions, CheckAgain.at(min(deadline, retry_at or deadline), now)))
