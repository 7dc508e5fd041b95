"""Explain a job's state, from ledger and cluster: what it waits for, how it runs, or why it ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from spoke_jobs.cli.explaining.in_cluster import running_in
from spoke_jobs.cli.explaining.reasons import CLUSTER, MESSAGE_LIMIT, Code, Explanation, Reason, when
from spoke_jobs.cli.explaining.waiting import waiting
from spoke_jobs.cli.words import ago, clock, line, seconds
from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.ledger.queries import Situation
from spoke_jobs.model import Attempt, JobRequest, JobState


def explain(situation: Situation, cluster: ClusterView | None = None) -> Explanation:
    """Explain the job's state.

    :param cluster: what the cluster says about a job of the runner ``kubernetes``.
    """
    job = situation.job
    if job.state is JobState.WAITING:
        return Explanation((*waiting(situation, cluster), *_unread(cluster)))
    if job.state is JobState.RUNNING:
        return Explanation((*_running(situation), *(running_in(cluster) if cluster else ()), *_unread(cluster)))
    if job.state is JobState.SUCCEEDED:
        return Explanation((_succeeded(situation),))
    return Explanation((_failed(situation),), _last_output(job, situation.attempts))


def _unread(cluster: ClusterView | None) -> Iterator[Reason]:
    if cluster is not None and cluster.unreadable:
        yield Reason(
            Code.CLUSTER_UNKNOWN,
            f"the cluster may know more: {', '.join(cluster.unreadable)} can't be read from here",
            "the Role RELEASE-reader of the chart spoke-app gives the rights; a newer spoke-jobs reads newer objects",
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
            f"it was asked to stop {ago(job.cancel_requested_at, now)}, and still runs",
            "it stops when its code checks ctx.cancelled; otherwise its worker ends it",
        )
    said = f": {line(job.result_message, MESSAGE_LIMIT)}" if job.result_message else ""
    yield Reason(
        Code.RUNNING,
        f"attempt {live.number} has run on {line(live.worker)} since {clock(live.claimed_at, now)} "
        f"({ago(live.claimed_at, now)}), {max(job.status, 0)} % done{said}",
        until=_timeout(job, live),
        worker=live.worker,
    )
    if (limit := _timeout(job, live)) is not None:
        yield Reason(Code.RUNNING, f"its timeout ends it at {clock(limit, now)} ({when(limit, now)})", until=limit)
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
            "the operator decides, from the state of its pod: kubectl get pods"
            if job.runner == CLUSTER
            else "a running worker ends such an attempt within a lease's time; see that one runs",
            until=live.lease_expires_at,
            worker=live.worker,
        )


def _succeeded(situation: Situation) -> Reason:
    job, now = situation.job, situation.now
    return Reason(Code.SUCCEEDED, f"it succeeded{_ended(job, now)}")


def _failed(situation: Situation) -> Reason:
    job, now = situation.job, situation.now
    cause = CAUSES.get(job.cause)
    meaning = cause.meaning if cause else "This release doesn't know the cause; a newer one recorded it."
    message = line(job.result_message, MESSAGE_LIMIT)
    said = "" if not message or message == line(meaning) else f" Its message: {message}"
    return Reason(
        Code.FAILED,
        f"it failed with {line(job.cause)}{_ended(job, now)}. {meaning}{said}",
        cause.advice if cause else "",
    )


def _ended(job: JobRequest, now: datetime) -> str:
    tries = f", at attempt {job.attempt}" if job.attempt > 1 else ""
    tries = ", before it was ever started" if job.attempt == 0 else tries
    if job.finished_at is None:
        return tries
    took = ""
    if job.started_at is not None:
        took = f", {seconds((job.finished_at - job.started_at).total_seconds())} after its start"
    return f" at {clock(job.finished_at, now)} ({ago(job.finished_at, now)}){tries}{took}"


def _last_output(job: JobRequest, attempts: tuple[Attempt, ...]) -> str:
    """Return the output of the attempt that ended the job, not that of an earlier failure."""
    last = attempts[-1] if attempts else None
    if last is None or last.run != job.run or job.cause not in (last.cause, Cause.CANCELLED):
        return ""
    return last.output_tail


def _timeout(job: JobRequest, live: Attempt) -> datetime | None:
    limit = job.options.timeout_seconds
    return None if limit is None else live.claimed_at + timedelta(seconds=limit)
