"""Decide the actions for one SpokeJob from its observed state.

The decision is level-triggered: it depends only on the current objects. Lost events, repeated events and restarts of
the operator therefore lead to the same result. A SpokeJob whose status is up to date causes no write.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from spoke_jobs.contract.causes import Cause, CauseClass, cause_class
from spoke_jobs.contract.names import job_name
from spoke_jobs.contract.retry import GiveUp, after_failure, held_delay
from spoke_jobs.contract.spokejob import AttemptStatus, LedgerState, SpokeJobStatus
from spoke_jobs.contract.wait_reasons import Wait, WaitReason

from . import cleanup, status
from .actions import ApplyStatus, CheckAgain, Decision, DeleteJob, ReadLive, Standing
from .api_objects import Job, Pod, PodTemplate, Unreadable
from .build_job import check_template
from .cleanup import Retention
from .diagnose import STOPPING, Bounds, Ended, Event, Pends, Runs, Unclear, diagnose, has_ended
from .next_attempt import next_attempt
from .observed import Observed, unrecorded


def reconcile(seen: Observed, now: datetime, retention: Retention) -> Decision:
    """Return the decision for one SpokeJob, with the actions in order."""
    spokejob = seen.spokejob
    if spokejob.deleting:  # the garbage collector deletes the Jobs
        return Decision(Standing.FINISHED)
    seen = replace(
        seen,
        jobs=tuple(job for job in seen.jobs if job.owner == spokejob.uid and job.attempt > 0),
        pods=tuple(pod for pod in seen.pods if pod.owner == spokejob.uid),
    )
    current = spokejob.status
    if current.outcome and current.outcome.final:
        return cleanup.after_the_end(spokejob, seen.jobs, seen.pods, now, retention)
    if current.ledger:
        started = _not_yet_recorded(seen, now)
        return _follow_ledger(_as_if(seen, started) if started else seen, current.ledger, now)
    if record := status.open_attempt(current):
        decision = _stop_attempt(seen, record, now) if record.cause else _under_way(seen, record, now)
    elif spokejob.spec.cancel and not _not_yet_recorded(seen, now):
        decision = Decision(Standing.FINISHED, seen.write(status.finished(current, Cause.CANCELLED, now)))
    else:
        decision = _between_attempts(seen, now)
    older = [job for job in seen.jobs if job.attempt <= current.attempt and not _is_open(current, job)]
    return replace(decision, actions=decision.actions + cleanup.of_ended(current, older, seen.pods, now, retention))


def reconcile_unreadable(item: Unreadable, now: datetime) -> tuple[ApplyStatus, ...]:
    """End an unreadable SpokeJob with the cause InvalidSpec, and name the fields."""
    if item.settled:
        return ()
    message = f"not readable: {item.problem}."
    final = status.finished(SpokeJobStatus(observed_generation=item.generation), Cause.INVALID_SPEC, now, message)
    return (ApplyStatus(final),)


def _follow_ledger(seen: Observed, ledger: LedgerState, now: datetime) -> Decision:
    """End the SpokeJob as its row has ended, whatever the state of its pods."""
    current = seen.spokejob.status
    record = status.open_attempt(current)
    pods = _of_attempt(seen.pods, current.attempt)
    end = diagnose(None, pods, (), Bounds(0, None), now, live=True)
    pod = _newest(pods)
    if ledger is LedgerState.SUCCEEDED:
        exit_code = end.exit_code if isinstance(end, Ended) else None
        closed = status.attempt_closed(current, Ended(cause="", exit_code=exit_code), pod, now)
        return Decision(Standing.FINISHED, seen.write(status.finished(closed, "", now)))
    # A row fails before its SpokeJob only if the job was cancelled: the operator decides all other ends.
    known = (record.cause if record else "") or Cause.CANCELLED
    if record is None:  # the last attempt has ended without ending the job
        end = Ended(cause=Cause.CANCELLED)
    if isinstance(end, Ended) and not end.cause:  # exit code 0 without a recorded success
        end = replace(end, cause=(record.cause if record else "") or Cause.JOB_EXITED)
    elif not isinstance(end, Ended) or end.cause == Cause.JOB_DELETED:
        end = Ended(cause=known)
    closed = status.attempt_closed(current, end, pod, now)
    stops = tuple(_delete(job) for job in seen.jobs if not job.finished and not job.meta.deletion_at)
    return Decision(Standing.FINISHED, (*stops, *seen.write(status.finished(closed, end.cause, now))))


def _under_way(seen: Observed, record: AttemptStatus, now: datetime) -> Decision:
    current = seen.spokejob.status
    spec = seen.spokejob.spec
    job = _job_of(seen, record.number)
    pods = _of_attempt(seen.pods, record.number)
    bounds = Bounds(spec.start_timeout_seconds, spec.timeout_seconds, ran=bool(record.pod))
    state = diagnose(job, pods, _events_about(seen.events, job, pods), bounds, now, live=seen.live)
    pod = _newest(pods)
    if isinstance(state, Pends) and _template_is_fixed(seen, record, state):
        text = f"{state.reason}, with the earlier template: {state.message}" if state.message else state.reason
        state = Ended(cause=Cause.TEMPLATE_CHANGED, message=text, stop=True)
    if seen.spokejob.spec.cancel and not isinstance(state, (Unclear, Ended)):
        state = Ended(cause=Cause.CANCELLED, stop=True)
    match state:
        case Unclear():
            return Decision(Standing.HOLDS, (ReadLive(),))
        case Ended(stop=True) if job:
            actions = seen.write(status.attempt_stopping(current, state, pod, now))
            return Decision(Standing.HOLDS, (*actions, *(() if job.meta.deletion_at else (_delete(job),))))
        case Ended():
            return _end(seen, state, pod, now)
        case Pends(reason, message, check_at):
            actions = seen.write(status.attempt_pends(current, Wait(reason, detail=message), now))
            later = (CheckAgain.at(check_at, now),) if check_at else ()
            return Decision(Standing.HOLDS, (*actions, *later))
        case Runs(stopping, check_at):
            updated = current if stopping else status.attempt_runs(current, pod, now)
            later = (CheckAgain.at(check_at, now),) if check_at else ()
            return Decision(Standing.HOLDS, (*seen.write(updated), *later))


def _template_is_fixed(seen: Observed, record: AttemptStatus, pends: Pends) -> bool:
    """Whether a stuck attempt's template has changed since. The change may have removed the obstacle.

    An attempt without an obstacle continues. Otherwise each change would end all attempts that are just starting.
    """
    if pends.reason in (WaitReason.POD_PENDING, WaitReason.QUEUED_BY_KUEUE) or seen.template is None:
        return False
    usable = isinstance(check_template(seen.spokejob, seen.template), PodTemplate)
    return usable and seen.template.is_newer_than(record.template, record.started_at)


def _stop_attempt(seen: Observed, record: AttemptStatus, now: datetime) -> Decision:
    """Stop an attempt whose cause is recorded. It has ended once no pod of it runs."""
    job = _job_of(seen, record.number)
    pods = _of_attempt(seen.pods, record.number)
    end = Ended(cause=record.cause, error_type=record.error_type, exit_code=record.exit_code,
                # No retry for class image: the attempt has waited its start timeout, or no fix is possible.
                for_good=cause_class(record.cause) is CauseClass.IMAGE,
                message=_message_of_stop(seen.spokejob.status))  # fmt: skip
    final_state = diagnose(job, pods, (), Bounds(0, None), now, live=True)
    if isinstance(final_state, Ended) and not final_state.cause:  # the attempt succeeded before it could be stopped
        end = final_state
    elif job is None and not seen.live:
        return Decision(Standing.HOLDS, (ReadLive(),))
    elif job and not job.meta.deletion_at:
        return Decision(Standing.HOLDS, (_delete(job),))
    elif job and any(not has_ended(pod, now) for pod in pods):
        return Decision(Standing.HOLDS, (CheckAgain(1.0),))
    elif job and not pods and not seen.live:
        return Decision(Standing.HOLDS, (ReadLive(),))
    return _end(seen, end, _newest(pods), now)


def _end(seen: Observed, end: Ended, pod: Pod | None, now: datetime) -> Decision:
    current = seen.spokejob.status
    if not end.cause:
        return Decision(Standing.FINISHED, seen.write(status.attempt_succeeded(current, end, pod, now)))
    after = held_delay(status.held_in_a_row(current)) if end.cause == Cause.QUEUE_HELD else end.retry_after_seconds
    verdict = after_failure(
        seen.spokejob.spec.retry.policy(),
        status.charged_classes(current.charged),
        end.cause,
        for_good=end.for_good,
        retry_after_seconds=after,
        key=f"{seen.spokejob.spec.uid}-{seen.spokejob.spec.run}-{current.attempt}",
    )
    standing = Standing.FINISHED if isinstance(verdict, GiveUp) else Standing.IDLE
    return Decision(standing, seen.write(status.attempt_failed(current, end, pod, verdict, now)))


def _between_attempts(seen: Observed, now: datetime) -> Decision:
    if started := _not_yet_recorded(seen, now):
        return _recorded(seen, started, now)
    return next_attempt(seen, now)


def _not_yet_recorded(seen: Observed, now: datetime) -> SpokeJobStatus | None:
    """Return the status with the attempt whose Job is not recorded yet added; None if there is no such Job."""
    spokejob, current = seen.spokejob, seen.spokejob.status
    if status.open_attempt(current):
        return None
    if made := unrecorded(spokejob, seen.jobs):
        job = min(made, key=lambda item: item.attempt)
        started_at = job.meta.created_at or now
        return status.attempt_started(current, job.attempt, job.meta.key.name, job.template, started_at, now)
    if seen.made > current.attempt:  # the Job was deleted before it was recorded; it still counts as an attempt
        return status.attempt_started(current, seen.made, job_name(spokejob.name, seen.made), "", now, now)
    return None


def _as_if(seen: Observed, updated: SpokeJobStatus) -> Observed:
    return replace(seen, spokejob=seen.spokejob.model_copy(update={"status": updated}))


def _recorded(seen: Observed, started: SpokeJobStatus, now: datetime) -> Decision:
    """Record that the attempt has its Job, together with the attempt's current state."""
    as_if = _as_if(seen, started)
    record = status.open_attempt(started)
    assert record is not None
    onward = _under_way(as_if, record, now)
    if any(isinstance(action, ApplyStatus | ReadLive) for action in onward.actions):
        prompt = bool(seen.spokejob.status.cause)
        actions = [replace(item, prompt=item.prompt or prompt) if isinstance(item, ApplyStatus) else item
                   for item in onward.actions]  # fmt: skip
        return replace(onward, actions=tuple(actions))
    return replace(onward, actions=(*seen.write(started), *onward.actions))


def _delete(job: Job) -> DeleteJob:
    return DeleteJob(job.meta.key.name, job.meta.uid, str(job.meta.resource_version), wait_for_pods=True)


def _events_about(events: tuple[Event, ...], job: Job | None, pods: tuple[Pod, ...]) -> tuple[Event, ...]:
    uids = {item.meta.uid for item in (*([job] if job else ()), *pods)}
    return tuple(event for event in events if event.about in uids)


def _is_open(current: SpokeJobStatus, job: Job) -> bool:
    record = status.open_attempt(current)
    return record is not None and record.number == job.attempt


def _job_of(seen: Observed, attempt: int) -> Job | None:
    return next((job for job in seen.jobs if job.attempt == attempt), None)


def _of_attempt(pods: tuple[Pod, ...], attempt: int) -> tuple[Pod, ...]:
    return tuple(pod for pod in pods if pod.attempt == attempt)


def _newest(pods: tuple[Pod, ...]) -> Pod | None:
    return max(pods, key=lambda pod: pod.meta.resource_version, default=None)


def _message_of_stop(current: SpokeJobStatus) -> str:
    return next((item.message for item in current.conditions if item.reason == STOPPING), "")
