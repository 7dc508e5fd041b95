"""Decide the actions for one SpokeJob from its observed state.

The decision is level-triggered: it depends only on the current objects. Lost events, repeated events and restarts of
the operator therefore lead to the same result. A SpokeJob whose status is up to date causes no write.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.advice import with_reason
from spoke_jobs.contract.causes import Cause, CauseClass, cause_class
from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, LedgerState, SpokeJob, SpokeJobStatus
from spoke_jobs.contract.failed_decisions import message_of
from spoke_jobs.contract.names import job_name
from spoke_jobs.contract.retry import GiveUp, after_failure, held_delay
from spoke_jobs.contract.wait_reasons import HELD_BY_OTHERS, Wait, WaitReason
from spoke_jobs_operator.core.diagnosis.attempt_state import STOPPING, Bounds, Ended, Pends, Runs, Unclear
from spoke_jobs_operator.core.diagnosis.diagnose import NEW_LEADER, OBSTRUCTED, UNCOUNTED, diagnose
from spoke_jobs_operator.core.diagnosis.pod_end import has_ended
from spoke_jobs_operator.core.diagnosis.refusals import quota_wait
from spoke_jobs_operator.core.diagnosis.scheduler_message import shortage
from spoke_jobs_operator.core.objects.api_objects import Job, Key, Pod, PodTemplate, Unreadable, WarningEvent
from spoke_jobs_operator.core.obstacles.refusal_hold import PATIENCE as TRIED_WITHIN
from spoke_jobs_operator.core.obstacles.room import Phase, sighting
from spoke_jobs_operator.core.standby.assignment import Handover, Step, Told, is_assigned, next_steps
from spoke_jobs_operator.core.templates.build_job import SAFE_TO_EVICT, attempt_variables, own_labels, owner_reference
from spoke_jobs_operator.core.templates.template_checks import check_template

from . import cleanup, status
from .actions import (
    Action,
    ApplyStatus,
    CheckAgain,
    Decision,
    DeleteJob,
    LabelPod,
    ReadLive,
    Standing,
    TakeStandby,
    TellStandby,
)
from .cleanup import Retention
from .next_attempt import next_attempt, without_place
from .observed import Observed, orphaned, unrecorded

RECORDED_WITHIN = timedelta(seconds=30)
"""An attempt of a job that was held is recorded when its pod runs, or after this time."""

_NO_OBSTACLE = (
    WaitReason.POD_PENDING,
    WaitReason.QUEUED_BY_KUEUE,
    WaitReason.INIT_RUNNING,
    WaitReason.SIDECAR_STARTING,
)
"""The reasons of an attempt that is just starting, or that Kueue holds back."""
_NODE_WENT_AWAY = (Cause.NODE_LOST, Cause.DRAINED)


def reconcile(seen: Observed, now: datetime, retention: Retention) -> Decision:
    """Return the decision for one SpokeJob, with the actions in order."""
    spokejob = seen.spokejob
    if spokejob.deleting:
        return _being_deleted(seen, now)
    seen = replace(
        seen,
        jobs=(
            *(job for job in seen.jobs if job.owner == spokejob.uid and 0 < job.attempt <= spokejob.status.attempt),
            *unrecorded(spokejob, seen.jobs),
        ),
        pods=tuple(pod for pod in seen.pods if pod.owner == spokejob.uid),
    )
    decision = _decide(seen, now, retention)
    return replace(decision, kept=cleanup.kept_jobs(spokejob.status, _ended(seen), seen.pods, now, retention))


def _decide(seen: Observed, now: datetime, retention: Retention) -> Decision:
    spokejob, current = seen.spokejob, seen.spokejob.status
    if current.is_final:
        return cleanup.after_the_end(
            spokejob, seen.jobs, seen.pods, now, retention, seen.surplus, followed=seen.followed
        )
    if current.ledger:
        started = _not_yet_recorded(seen, now)
        return _follow_ledger(_as_if(seen, started) if started else seen, current.ledger, now)
    if record := current.open_attempt:
        handing_over = None if record.cause else _handing_over(seen, record, now)
        decision = _stop_attempt(seen, record, now) if record.cause else handing_over or _under_way(seen, record, now)
    elif spokejob.spec.cancel and (seen.held or not _not_yet_recorded(seen, now)):
        decision = Decision(Standing.FINISHED, seen.write(_finished(seen, current, Cause.CANCELLED, now)))
    else:
        decision = _between_attempts(seen, now)
    deletions = cleanup.of_ended(current, _ended(seen), seen.pods, now, retention, seen.surplus)
    return replace(decision, actions=decision.actions + deletions)


def _being_deleted(seen: Observed, now: datetime) -> Decision:
    """Delete the Jobs of a SpokeJob that is being deleted. An attempt keeps its place until its pod has ended.

    The garbage collector deletes them only once the SpokeJob is gone, and somebody's finalizer may keep it. After a
    deletion with ``--cascade=orphan`` it does not delete them at all. Their pods would run outside all limits.
    """
    spokejob = seen.spokejob
    known = max(spokejob.status.attempt, seen.made)  # others may make a Job that looks like the next attempt's
    recorded = [job for job in seen.jobs if job.owner == spokejob.uid and 0 < job.attempt <= known]
    orphans = orphaned(Key(spokejob.namespace, spokejob.name), seen.jobs)
    jobs = [*recorded, *(job for job in (*unrecorded(spokejob, seen.jobs), *orphans) if job not in recorded)]
    pods = tuple(pod for pod in seen.pods if pod.owner == spokejob.uid)
    deletions = tuple(DeleteJob.of(job) for job in jobs if not job.meta.deletion_at)
    if any(not cleanup.is_over(job, pods, now) for job in jobs if job.attempt <= known):
        return Decision(Standing.HOLDS, (*deletions, CheckAgain(1.0)))
    return Decision(Standing.FINISHED, deletions)


def orphan_deletions(key: Key, jobs: Iterable[Job]) -> tuple[DeleteJob, ...]:
    """Return the deletions of the Jobs that a SpokeJob left behind."""
    return tuple(DeleteJob.of(job) for job in orphaned(key, jobs) if not job.meta.deletion_at)


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
    record = current.open_attempt
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
    stops = tuple(DeleteJob.of(job) for job in seen.jobs if not job.finished and not job.meta.deletion_at)
    return Decision(Standing.FINISHED, (*stops, *seen.write(_finished(seen, closed, end.cause, now))))


def _handing_over(seen: Observed, record: AttemptStatus, now: datetime) -> Decision | None:
    """Hand an attempt over to the standby pod that it was assigned to; None once it is like any other attempt."""
    handover = seen.handover
    if handover is None:
        return None
    steps = next_steps(record, seen.spokejob.uid, handover, live=seen.live)
    if not steps:
        return None
    if steps == (Step.READ,):
        return Decision(Standing.HOLDS, (ReadLive(),))
    cancels = seen.spokejob.spec.cancel and Step.TELL in steps
    if cancels and Step.TAKE in steps and not seen.live:
        return Decision(Standing.HOLDS, (ReadLive(),))  # an earlier leader may have handed it over
    overdue = _is_overdue(seen, record, handover, steps, now)
    if overdue and not seen.live:
        return Decision(Standing.HOLDS, (ReadLive(),))  # an earlier leader may have handed it over
    if cancels or overdue or steps == (Step.LOSE,):
        lost = Ended(cause=Cause.STANDBY_LOST, stop=True, message=handover.refusal)
        end = Ended(cause=Cause.CANCELLED, stop=True) if cancels else lost
        return _of_state(seen, end, _job_of(seen, record.number), None, now)
    actions = [_action_of(step, seen, record, handover, now) for step in steps]
    if handover.tell_at is not None and now < handover.tell_at:
        later = CheckAgain.at(handover.tell_at, now)
        actions = [later if isinstance(action, TellStandby) else action for action in actions]
    return Decision(Standing.HOLDS, tuple(actions))


def _is_overdue(
    seen: Observed, record: AttemptStatus, handover: Handover, steps: tuple[Step, ...], now: datetime
) -> bool:
    """Whether the Job or the pod still lacks the attempt's labels at the start timeout, so that no pod was told."""
    untold = not record.pod and handover.told is not Told.DONE
    return untold and steps[0] in (Step.TAKE, Step.LABEL) and now >= _handed_over_by(seen, record, now)


def _handed_over_by(seen: Observed, record: AttemptStatus, now: datetime) -> datetime:
    """Return when an attempt is lost that is not handed over. A new leader first tries for a while."""
    until = (record.started_at or now) + timedelta(seconds=seen.spokejob.spec.start_timeout_seconds)
    return max(until, seen.observed_since + NEW_LEADER) if seen.observed_since else until


def _action_of(step: Step, seen: Observed, record: AttemptStatus, handover: Handover, now: datetime) -> Action:
    spokejob, job, pod = seen.spokejob, handover.job, handover.pod
    assert job is not None
    labels = own_labels(spokejob, record.number)
    if step is Step.TAKE:
        version = str(job.meta.resource_version)
        return TakeStandby(job.meta.key.name, job.meta.uid, version, labels, owner_reference(spokejob))
    if step is Step.TELL:
        timeout = record.timeout_seconds or spokejob.spec.timeout_seconds
        variables = attempt_variables(spokejob, record.number, timeout)
        ip = pod.ip if pod is not None else ""
        began = record.started_at or now
        until = _handed_over_by(seen, record, now)
        return TellStandby(job.meta.key.name, job.meta.uid, ip, variables, began, until)
    assert pod is not None
    return LabelPod(pod.meta.key.name, pod.meta.uid, labels, {SAFE_TO_EVICT: "false"})


def _under_way(seen: Observed, record: AttemptStatus, now: datetime, earlier: SpokeJobStatus | None = None) -> Decision:
    """Decide on an attempt that has a Job.

    :param earlier: the SpokeJob's status, if it does not record the attempt yet. Only it says what the job waited for.
    """
    current = seen.spokejob.status
    spec = seen.spokejob.spec
    job = _job_of(seen, record.number)
    pods = _of_attempt(seen.pods, record.number)
    bounds = Bounds(
        spec.start_timeout_seconds,
        record.timeout_seconds or spec.timeout_seconds,
        ran=bool(record.pod),
        obstructed_since=_obstructed_since(earlier or current, now),
        node_lost=_lost_its_node(current, record),
        by_quota=_waits_for_quota(current) or _refused_since(earlier, record, now),
        observed_since=seen.observed_since,
        assigned_at=record.started_at if is_assigned(record) else None,
    )
    state = diagnose(job, pods, _events_about(seen.events, job, pods), bounds, now, live=seen.live)
    pod = _newest(pods)
    if isinstance(state, Pends) and _template_is_fixed(seen, record, state):
        said = wait_text.sentence(_wait_of(state))
        text = f"{state.reason}, with the earlier template: {said}" if said else state.reason
        state = Ended(cause=Cause.TEMPLATE_CHANGED, message=text, stop=True)
    if seen.spokejob.spec.cancel and not isinstance(state, (Unclear, Ended)):
        state = Ended(cause=Cause.CANCELLED, message=_said_while_pending(state), stop=True)
    seen_of_pod = sighting(pod, state, spec.start_timeout_seconds, node_lost=bounds.node_lost)
    return replace(_of_state(seen, state, job, pod, now), seen=seen_of_pod)


def _of_state(
    seen: Observed, state: Ended | Runs | Pends | Unclear, job: Job | None, pod: Pod | None, now: datetime
) -> Decision:
    current = seen.spokejob.status
    match state:
        case Unclear():
            return Decision(Standing.HOLDS, (ReadLive(),))
        case Ended(stop=True) if job:
            actions = seen.write(status.attempt_stopping(current, state, pod, now))
            return Decision(Standing.HOLDS, (*actions, *(() if job.meta.deletion_at else (DeleteJob.of(job),))))
        case Ended():
            return _end(seen, state, pod, now)
        case Pends(check_at=check_at):
            later = (CheckAgain.at(check_at, now),) if check_at else ()
            if soon := _starts_soon(current, state.reason, pod, now):
                return Decision(Standing.HOLDS, (*later, soon))
            actions = seen.write(status.attempt_pends(current, _wait_of(state), now))
            return Decision(Standing.HOLDS, (*actions, *later))
        case Runs(stopping, check_at):
            updated = current if stopping else status.attempt_runs(current, pod, now)
            later = (CheckAgain.at(check_at, now),) if check_at else ()
            return Decision(Standing.HOLDS, (*seen.write(updated), *later))


def _starts_soon(current: SpokeJobStatus, reason: str, pod: Pod | None, now: datetime) -> CheckAgain | None:
    """Return a later check if a pod that waited for room or a quota starts: the next write says that it runs."""
    begun = (pod.scheduled_at or pod.meta.created_at) if pod else None
    waited_for_room = current.cause == WaitReason.CLUSTER_FULL and pod is not None and pod.scheduled_at is not None
    waited = waited_for_room or current.cause == WaitReason.QUOTA_EXCEEDED
    if reason != WaitReason.POD_PENDING or not waited or begun is None:
        return None
    due = begun + RECORDED_WITHIN
    return CheckAgain.at(due, now) if now < due else None


def _obstructed_since(current: SpokeJobStatus, now: datetime) -> datetime | None:
    """Return since when the pod is known to fit no node or to be rejected. An earlier wait for room does not count."""
    wait = current.waiting
    if wait is None:
        return None
    if wait.code in UNCOUNTED:
        return now
    return wait.since if wait.code in OBSTRUCTED else None


def _waits_for_quota(current: SpokeJobStatus) -> bool:
    return current.waiting is not None and current.waiting.code == WaitReason.QUOTA_EXCEEDED


def _refused_since(earlier: SpokeJobStatus | None, record: AttemptStatus, now: datetime) -> bool:
    """Whether the pod of an attempt that is not recorded was refused, so long ago that the Event may be gone."""
    if earlier is None or record.started_at is None or not _waits_for_quota(earlier):
        return False
    return now - record.started_at > TRIED_WITHIN


def _lost_its_node(current: SpokeJobStatus, record: AttemptStatus) -> bool:
    """Whether the attempt before had the same PodTemplate and a node that went away. The pod would fit that node.

    A pod without a node may be drained, too: somebody may evict it while it waits.
    """
    earlier = next((item for item in reversed(current.attempts) if item.number < record.number), None)
    if earlier is None or not earlier.node:
        return False
    return earlier.cause in _NODE_WENT_AWAY and earlier.template == record.template


def _wait_of(pends: Pends) -> Wait:
    if pends.reason == WaitReason.QUOTA_EXCEEDED:
        return quota_wait(pends.message) or Wait(pends.reason)
    about = shortage(pends.message) if pends.reason == WaitReason.CLUSTER_FULL else pends.object
    return Wait(pends.reason, object=about, since=pends.since, ends_at=pends.ends_at, detail=pends.message)


def _said_while_pending(state: Runs | Pends) -> str:
    """Return what a job that is cancelled waited for; empty if there was no obstacle."""
    if not isinstance(state, Pends) or state.reason in _NO_OBSTACLE:
        return ""
    return with_reason(state.reason, wait_text.sentence(_wait_of(state)))


def _template_is_fixed(seen: Observed, record: AttemptStatus, pends: Pends) -> bool:
    """Whether the template has changed since a stuck attempt started. The change may have removed the obstacle.

    An attempt without an obstacle continues. Otherwise each change would end all attempts that are just starting.
    """
    if pends.reason in _NO_OBSTACLE or seen.template is None:
        return False
    usable = isinstance(check_template(seen.spokejob, seen.template), PodTemplate)
    return usable and seen.template.is_newer_than(record.template, record.started_at)


def _stop_attempt(seen: Observed, record: AttemptStatus, now: datetime) -> Decision:
    """Stop an attempt whose cause is recorded. It has ended once no pod of it runs."""
    job = _job_of(seen, record.number)
    pods = _of_attempt(seen.pods, record.number)
    end = Ended(cause=record.cause, error_type=record.error_type, exit_code=record.exit_code,
                # No retry for class image: the start timeout is over, or nobody can remove the obstacle.
                for_good=cause_class(record.cause) is CauseClass.IMAGE,
                message=record.message or seen.spokejob.status.said(STOPPING),
                container=record.container, reason=record.reason)  # fmt: skip
    final_state = diagnose(job, pods, (), Bounds(0, None), now, live=True)
    if isinstance(final_state, Ended) and not final_state.cause:  # the attempt succeeded before it could be stopped
        end = final_state
    elif job is None and not seen.live:
        return Decision(Standing.HOLDS, (ReadLive(),))
    elif job and not job.meta.deletion_at:
        return Decision(Standing.HOLDS, (DeleteJob.of(job),))
    elif job and any(not has_ended(pod, now) for pod in pods):
        return Decision(Standing.HOLDS, (CheckAgain(1.0),))
    elif job and not pods and not seen.live:
        return Decision(Standing.HOLDS, (ReadLive(),))
    return _end(seen, end, _newest(pods), now)


def _end(seen: Observed, end: Ended, pod: Pod | None, now: datetime) -> Decision:
    current = seen.spokejob.status
    if not end.cause:
        return Decision(Standing.FINISHED, seen.write(status.attempt_succeeded(current, end, pod, now)))
    after = held_delay(status.held_in_a_row(current)) if end.cause in status.HELD else end.retry_after_seconds
    verdict = after_failure(
        seen.spokejob.spec.retry.policy(),
        status.failures_by_class(current),
        end.cause,
        for_good=end.for_good,
        retry_after_seconds=after,
        key=f"{seen.spokejob.spec.uid}-{seen.spokejob.spec.run}-{current.attempt}",
    )
    standing = Standing.FINISHED if isinstance(verdict, GiveUp) else Standing.IDLE
    job_id = seen.spokejob.spec.request_id
    return Decision(standing, seen.write(status.attempt_failed(current, end, pod, verdict, now, job_id)))


def _finished(seen: Observed, current: SpokeJobStatus, cause: str, now: datetime) -> SpokeJobStatus:
    return status.finished(current, cause, now, job_id=seen.spokejob.spec.request_id)


def _between_attempts(seen: Observed, now: datetime) -> Decision:
    if started := _not_yet_recorded(seen, now):
        decision = _recorded(seen, started, now)
        # This leader has not admitted the SpokeJob: somebody else made the Job. It takes a place like all others.
        return without_place(seen, now) if seen.held and decision.standing is Standing.HOLDS else decision
    return next_attempt(seen, now)


def _not_yet_recorded(seen: Observed, now: datetime) -> SpokeJobStatus | None:
    """Return the status with one more attempt, the one whose Job the status does not record; None if there is none."""
    spokejob, current = seen.spokejob, seen.spokejob.status
    if current.open_attempt:
        return None
    if made := unrecorded(spokejob, seen.jobs):
        job = min(made, key=lambda item: item.attempt)
        started_at = job.meta.created_at or now
        ends_at = None if job.suspended else started_at + timedelta(seconds=spokejob.spec.start_timeout_seconds)
        return status.attempt_started(
            current, job.attempt, job.meta.key.name, job.template, started_at, now, job.timeout_seconds, ends_at
        )
    if seen.made > current.attempt:  # the Job was deleted before it was recorded; it still counts as an attempt
        return status.attempt_started(current, seen.made, job_name(spokejob.name, seen.made), "", now, now)
    return None


def _as_if(seen: Observed, updated: SpokeJobStatus) -> Observed:
    return replace(seen, spokejob=seen.spokejob.model_copy(update={"status": updated}))


def _recorded(seen: Observed, started: SpokeJobStatus, now: datetime) -> Decision:
    """Record that the attempt has its Job, together with the attempt's current state."""
    as_if = _as_if(seen, started)
    record = started.open_attempt
    assert record is not None
    onward = _under_way(as_if, record, now, seen.spokejob.status)
    if later := _recorded_later(seen, onward, started, now):
        return later
    if any(isinstance(action, ApplyStatus | ReadLive) for action in onward.actions):
        prompt = bool(seen.spokejob.status.cause)
        actions = [replace(item, prompt=item.prompt or prompt) if isinstance(item, ApplyStatus) else item
                   for item in onward.actions]  # fmt: skip
        return replace(onward, actions=tuple(actions))
    return replace(onward, actions=(*seen.write(started), *onward.actions))


def _recorded_later(seen: Observed, onward: Decision, started: SpokeJobStatus, now: datetime) -> Decision | None:
    """Return a decision without the write of the attempt, if a write slightly later will say more; else None.

    So the status of a job that was held keeps its reason until the pod runs, even if a quota refuses the pod meanwhile.
    If many attempts start, the scheduler decides before the write.
    """
    if onward.seen is None:
        return None
    if _says_so_already(seen.spokejob.status, onward.seen.refused):
        return replace(onward, actions=_checks(onward))
    if onward.seen.phase is Phase.OTHER:
        return None
    undecided = seen.others_wait and onward.seen.phase is Phase.NO_NODE
    if not undecided and seen.spokejob.status.cause not in HELD_BY_OTHERS:
        return None
    checks = _checks(onward)
    if onward.seen.phase is Phase.NO_ROOM:  # the status may show that already
        return replace(onward, actions=checks) if seen.spokejob.status.cause == WaitReason.CLUSTER_FULL else None
    record = started.open_attempt
    pod = _newest(_of_attempt(seen.pods, started.attempt))
    begun = (record.started_at if record else None, (pod.scheduled_at or pod.meta.created_at) if pod else None)
    due = max((at for at in begun if at), default=now) + RECORDED_WITHIN
    return replace(onward, actions=(*checks, CheckAgain.at(due, now))) if now < due else None


def _says_so_already(current: SpokeJobStatus, refused: Wait | None) -> bool:
    """Whether the status of a job that was held for a quota names the quota that refuses its pod now."""
    known = current.waiting
    if refused is None or known is None:
        return False
    return refused.code == known.code == WaitReason.QUOTA_EXCEEDED and refused.object in ("", known.object)


def _checks(decision: Decision) -> tuple[CheckAgain, ...]:
    return tuple(action for action in decision.actions if isinstance(action, CheckAgain))


def _events_about(events: tuple[WarningEvent, ...], job: Job | None, pods: tuple[Pod, ...]) -> tuple[WarningEvent, ...]:
    uids = {item.meta.uid for item in (*([job] if job else ()), *pods)}
    return tuple(event for event in events if event.about in uids)


def _ended(seen: Observed) -> list[Job]:
    """Return the Jobs of recorded attempts that have ended."""
    current = seen.spokejob.status
    record = current.open_attempt
    return [job for job in seen.jobs if job.attempt <= current.attempt and (not record or record.number != job.attempt)]


def _job_of(seen: Observed, attempt: int) -> Job | None:
    return next((job for job in seen.jobs if job.attempt == attempt), None)


def _of_attempt(pods: tuple[Pod, ...], attempt: int) -> tuple[Pod, ...]:
    return tuple(pod for pod in pods if pod.attempt == attempt)


def _newest(pods: tuple[Pod, ...]) -> Pod | None:
    return max(pods, key=lambda pod: pod.meta.resource_version, default=None)


def undiagnosable(spokejob: SpokeJob, jobs: Iterable[Job], error: Exception, now: datetime) -> Decision:
    """Return the decision that stops the attempt and ends the SpokeJob, without a look at pods, events or limits.

    The Jobs are deleted first: an attempt that holds no place must not run on if the status can't be written.
    """
    stops = tuple(
        DeleteJob.of(job) for job in jobs if job.owner == spokejob.uid and not job.finished and not job.meta.deletion_at
    )
    final = _final(spokejob, message_of(error), now).model_copy(update={"observed_generation": spokejob.generation})
    return Decision(Standing.FINISHED, (*stops, ApplyStatus(final, prompt=True)))


def _final(spokejob: SpokeJob, message: str, now: datetime) -> SpokeJobStatus:
    cause, job_id = Cause.UNDIAGNOSABLE, spokejob.spec.request_id
    try:
        closed = status.attempt_closed(spokejob.status, Ended(cause, message=message), None, now)
        return status.finished(closed, cause, now, message, job_id=job_id)
    except Exception:  # the status itself may be what no code can handle
        return status.finished(SpokeJobStatus(attempt=spokejob.status.attempt), cause, now, message, job_id=job_id)
