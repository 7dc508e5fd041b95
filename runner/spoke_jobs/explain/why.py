"""Explain a job's state, from ledger and cluster: what it waits for, how it runs, or why it ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.contract.advice import advice, failed_batch_advice
from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.execution.lease import CANCEL_GRACE_SECONDS
from spoke_jobs.explain.in_cluster import running_in
from spoke_jobs.explain.kept_output import titled
from spoke_jobs.explain.lock_holders import stalled_since
from spoke_jobs.explain.moves import moved
from spoke_jobs.explain.reasons import MESSAGE_LIMIT, Explanation, Reason, in_short, when
from spoke_jobs.explain.waiting import blocked, suspension_text, waiting
from spoke_jobs.explain.words import ago, clock, count, line, seconds
from spoke_jobs.ledger.reading.situations import Situation
from spoke_jobs.model import Attempt, JobRequest, JobState


def explain(situation: Situation, cluster: ClusterView | None = None) -> Explanation:
    """Explain the job's state.

    :param cluster: what the cluster says about a job of the runner ``kubernetes``.
    """
    job = situation.job
    if job.state is JobState.BLOCKED:
        return Explanation(tuple(blocked(situation)))
    if job.state is JobState.WAITING:
        return Explanation((*waiting(situation, cluster), *_moved(situation), *_unread(cluster)))
    if job.state is JobState.RUNNING:
        in_cluster = running_in(cluster) if cluster else ()
        return Explanation((*_running(situation), *_moved(situation), *in_cluster, *_unread(cluster)))
    if job.state is JobState.SUCCEEDED:
        return Explanation((_succeeded(situation),))
    return Explanation((_failed(situation, cluster),), _last_output(situation))


def is_explained_by_cluster(job: JobRequest) -> bool:
    """Whether the job's SpokeJob says more about its end than the ledger does."""
    return job.executor is Executor.CLUSTER and job.cause == Cause.START_TIMEOUT


def _moved(situation: Situation) -> Iterator[Reason]:
    reason = moved(situation.job, situation.attempts, situation.now)
    if reason is not None:
        yield reason


def _unread(cluster: ClusterView | None) -> Iterator[Reason]:
    if cluster is not None and cluster.unreadable:
        yield Reason(
            Code.CLUSTER_UNKNOWN,
            f"the cluster may know more: {', '.join(cluster.unreadable)} can't be read from here",
            "the Role FULLNAME-reader of the chart spoke-app gives the rights; a newer spoke-jobs reads newer objects",
        )


def _running(situation: Situation) -> Iterator[Reason]:
    job, now = situation.job, situation.now
    live = next((attempt for attempt in reversed(situation.attempts) if attempt.finished_at is None), None)
    if live is None:  # the attempt ended between two reads (on SQLite they have no common snapshot)
        yield Reason(Code.RUNNING, f"attempt {job.attempt} runs")
        return
    left = live.lease_expires_at - now
    if job.cancel_requested_at is not None:
        yield Reason(
            Code.CANCELLING,
            f"{_who(situation)} asked it to stop {ago(job.cancel_requested_at, now)}, and it still runs",
            f"it stops when its code checks ctx.cancelled; otherwise it is ended after {CANCEL_GRACE_SECONDS:g} s",
        )
    said = f": {line(job.result_message, MESSAGE_LIMIT)}" if job.result_message else ""
    yield Reason(
        Code.RUNNING,
        f"attempt {live.number} has run on {line(live.worker)} since {clock(live.claimed_at, now)} "
        f"({ago(live.claimed_at, now)}), {max(job.status, 0)} % done{said}",
        until=_timeout(job, live),
        worker=live.worker,
    )
    ended = (item for item in reversed(situation.attempts) if item.run == job.run and item.finished_at is not None)
    if (before := next(ended, None)) is not None and before.finished_at is not None:
        yield Reason(
            Code.RUNNING,
            f"attempt {before.number} ended with {line(before.cause)} {ago(before.finished_at, now)}",
        )
    if (limit := _timeout(job, live)) is not None:
        yield Reason(Code.RUNNING, f"its timeout ends it at {clock(limit, now)} ({when(limit, now)})", until=limit)
    if said := suspension_text(situation):
        advice = f"to let further attempts start: `spoke-jobs resume {job.id}`"
        yield Reason(Code.RUNNING, f"{said}. This attempt goes on, and no other one follows", advice)
    yield from _holding_up(situation)
    beat = f"its last heartbeat was {ago(live.heartbeat_at, now)}"
    if left > timedelta(0):
        yield Reason(
            Code.RUNNING,
            f"{beat}; its lease holds for {seconds(left.total_seconds())} more",
            until=live.lease_expires_at,
            worker=live.worker,
        )
    else:
        yield Reason(
            Code.LEASE_LAPSED,
            f"{beat}, and its lease ended {ago(live.lease_expires_at, now)}: its worker is gone or cut off",
            "if its node is gone, the attempt ends as NodeLost about 80 s after the node stopped, and the next one "
            "starts on another node; else the operator decides from the state of its pod: kubectl get nodes,pods"
            if job.executor is Executor.CLUSTER
            else "within the time of one lease, a running worker ends that attempt: check that a worker runs",
            until=live.lease_expires_at,
            worker=live.worker,
        )


def _holding_up(situation: Situation) -> Iterator[Reason]:
    """Say that jobs wait for the lock of its queue, if it reports no progress."""
    job, holder, behind = situation.job, situation.holder, situation.behind_in_queue
    if holder is None or holder.job_id != job.id or not behind:
        return
    if (stalled := stalled_since(holder, situation.now)) is not None:
        at = f", at {holder.percent} %" if holder.percent > 0 else ""
        usual = holder.usual_seconds
        usually = f"; its type usually takes {seconds(usual)}" if usual is not None else ""
        least = "at least " if situation.more_behind else ""
        ends = "" if job.options.timeout_seconds is not None else " It has no timeout."
        yield Reason(
            Code.HOLDS_UP,
            f"no progress since {clock(stalled, situation.now)} ({ago(stalled, situation.now)}){at}{usually}. It holds "
            f"the lock of the queue {line(job.queue_name)}: {least}{count(behind, 'job')} "
            f"{'waits' if behind == 1 else 'wait'} for it.{ends}",
            f"read its output: `spoke-jobs logs {job.id}`; if it hangs: `spoke-jobs cancel {job.id}`. If it does not "
            f"stop by itself, it is ended after {CANCEL_GRACE_SECONDS:g} s, and the lock is free",
            number=behind,
        )


def _succeeded(situation: Situation) -> Reason:
    return Reason(Code.SUCCEEDED, f"it succeeded{_ended(situation)}")


def _failed(situation: Situation, cluster: ClusterView | None) -> Reason:
    job = situation.job
    cause = CAUSES.get(job.cause)
    meaning = cause.meaning if cause else "This release doesn't know the cause; a newer one recorded it."
    if job.cause == Cause.CANCELLED and situation.cancelled_by:
        meaning = f"{_who(situation)} cancelled the job."
    message = line(job.result_message, MESSAGE_LIMIT)
    if len(job.result_message) > MESSAGE_LIMIT:  # what matters stands last in some messages
        message = in_short(job.cause, job.result_message) or message
    batch = situation.failed_batch  # the message names it
    known = {"", line(meaning), *([cause.meaning] if cause else [])}
    said = "" if message in known else f" Its message: {message}"
    return Reason(
        Code.FAILED,
        f"it failed with {line(job.cause)}{_ended(situation)}. {meaning}{said}",
        failed_batch_advice(batch.id)
        if batch
        else advice(
            job.cause,
            _waited_for(job, cluster),
            job.id,
            _error_type(situation),
            executor=job.executor,
            with_message=bool(said),
        ),
        batch_id=batch.id if batch else None,
    )


def _error_type(situation: Situation) -> str:
    """Return the error type of the attempt that ended the job; empty if that is not known."""
    job, last = situation.job, situation.attempts[-1] if situation.attempts else None
    return last.error_type if last is not None and (last.run, last.cause) == (job.run, job.cause) else ""


def _who(situation: Situation) -> str:
    return line(situation.cancelled_by) or "somebody"


def _waited_for(job: JobRequest, cluster: ClusterView | None) -> str:
    """Return what a job waited for until its start timeout; empty if that is not known."""
    spokejob = cluster.spokejob if cluster else None
    same = spokejob is not None and (spokejob.spec.uid, spokejob.spec.run) == (job.uid, job.run)
    return spokejob.status.reason if spokejob is not None and same else ""


def _ended(situation: Situation) -> str:
    job, now = situation.job, situation.now
    began = _begun(situation)
    number = max([began, *(report.number for report in situation.reports if report.run == job.run)])
    tries = _tries(situation, began, number)
    if job.finished_at is None:
        return tries
    took = ""
    if job.started_at is not None:
        start = "first start" if number > 1 else "start"
        took = f", {seconds((job.finished_at - job.started_at).total_seconds())} after its {start}"
    return f" at {clock(job.finished_at, now)} ({ago(job.finished_at, now)}){tries}{took}"


def _begun(situation: Situation) -> int:
    """Return the number of the last attempt of the run that a pod or a worker has begun; 0 if there is none."""
    job = situation.job
    return max([job.attempt, 0, *(item.number for item in situation.attempts if item.run == job.run)])


def _tries(situation: Situation, began: int, number: int) -> str:
    """Say at which attempt the job ended, and whether that was started.

    :param number: the number of the last attempt. If it is higher than ``began``, its pod never ran.
    """
    job = situation.job
    at = f", at attempt {number}" if number > 1 else ""
    if began:
        return f", before its attempt {number} was started" if number > began else at
    # Other code counts no attempts.
    if job.state is JobState.SUCCEEDED or job.started_at is not None or job.executor is Executor.OTHERS:
        return at
    before = any(item.run < job.run for item in situation.attempts)  # a retry by hand, and a move, count anew
    return f"{at}, before it was {'started again' if before else 'ever started'}"


def _last_output(situation: Situation) -> str:
    """Return the output of the attempt that ended the job, not that of an earlier failure."""
    job, last = situation.job, situation.attempts[-1] if situation.attempts else None
    ended_it = last is not None and last.run == job.run and job.cause in (last.cause, Cause.CANCELLED)
    if last is not None and ended_it and last.output_tail:
        return last.output_tail
    report = situation.reports[-1] if situation.reports else None
    if report is None or (report.run, report.cause) != (job.run, job.cause):
        return ""
    return "\n".join(text for item in report.outputs for text in titled(item, report.outputs))


def _timeout(job: JobRequest, live: Attempt) -> datetime | None:
    limit = job.options.timeout_seconds
    return None if limit is None else live.claimed_at + timedelta(seconds=limit)
