"""Explain what a waiting job waits for, from the ledger. Pure.

The ledger knows workers only by the attempts that they claim. Whether a worker runs, and whether it knows a type, can
only be concluded from these attempts, and the texts say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from spoke_jobs.cli.explaining.in_cluster import in_the_cluster
from spoke_jobs.cli.explaining.reasons import CLUSTER, MESSAGE_LIMIT, Code, Reason, when
from spoke_jobs.cli.words import ago, clock, count, line, ordinal, seconds, until
from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.names import spokejob_name
from spoke_jobs.ledger.queries import Situation, Trace
from spoke_jobs.model import JobRequest

_SOON = timedelta(seconds=5)
"""An idle worker finds a due job well within this time."""


def waiting(situation: Situation, cluster: ClusterView | None = None) -> Iterator[Reason]:
    job, now = situation.job, situation.now
    if job.runner == CLUSTER:
        if cluster is not None and not cluster.problem and cluster.spokejob is not None:
            yield from in_the_cluster(situation, cluster)
            return  # the operator decides the rest: the queue's lock, the time, the limits
        yield from _in_the_cluster(situation, cluster)
    if job.run_after is not None and job.run_after > now:
        yield _later(job, job.run_after, now)
        return  # nobody knows yet which jobs will come first at that time
    if (held := _held(situation)) is not None:
        yield held
    if job.runner != CLUSTER:
        yield from _for_a_worker(situation, held is not None)
    # In a cluster the operator applies the start timeout, from the creation of each attempt's Job.
    if job.runner != CLUSTER and job.attempt == 0 and job.start_by is not None:
        limit = seconds(job.options.start_timeout_seconds or 0)
        yield Reason(
            Code.START_BY,
            f"unless it has started by {clock(job.start_by, now)} ({when(job.start_by, now)}), it fails with "
            f"StartTimeout (its start timeout is {limit})",
            until=job.start_by,
        )


def _in_the_cluster(situation: Situation, cluster: ClusterView | None) -> Iterator[Reason]:
    job, now = situation.job, situation.now
    name = spokejob_name(job.job_type, job.id, job.uid, job.run)
    if cluster is not None and cluster.problem:
        yield Reason(
            Code.CLUSTER_UNKNOWN,
            f"the cluster could not be asked: {line(cluster.problem, MESSAGE_LIMIT)}",
            "set SPOKE_NAMESPACE and KUBECONFIG, or run the command where the job's cluster can be reached",
        )
    elif cluster is not None and not cluster.unreadable and job.submitted_at is not None:
        yield Reason(
            Code.SPOKEJOB_GONE,
            f"its SpokeJob {name}, created {ago(job.submitted_at, now)}, no longer exists",
            "`spoke-jobs sync` ends the job as SpokeJobDeleted within 30 s: see that it runs",
        )
        return
    if job.submitted_at is not None:
        yield Reason(
            Code.SUBMITTED,
            f"its SpokeJob {name} was created at {clock(job.submitted_at, now)} ({ago(job.submitted_at, now)}); the "
            "ledger does not record what it waits for in the cluster",
            f"kubectl describe spokejob {name}",
        )
        return
    if job.run_after is not None and job.run_after > now:
        return  # sync creates it when it is due
    late = now - _due_since(job) > 2 * _SOON
    yield Reason(
        Code.NOT_SUBMITTED,
        f"its SpokeJob {name} is not known to exist yet",
        "see that `spoke-jobs sync` runs, and read its log: a due job gets its SpokeJob within seconds" if late else "",
    )


def _later(job: JobRequest, when: datetime, now: datetime) -> Reason:
    at = f"{clock(when, now)} ({until(when, now)})"
    if not job.cause:
        return Reason(Code.DUE_LATER, f"it is not to be started before {at}", until=when)
    said = _said(job.result_message)
    if job.cause == Cause.RETRY_LATER:
        return Reason(Code.ASKED_LATER, f"it asked to be run again later{said}: not before {at}", until=when)
    return Reason(
        Code.BACKOFF,
        f"attempt {job.attempt} failed with {job.cause}{said}; attempt {job.attempt + 1} follows at {at}",
        until=when,
    )


def _held(situation: Situation) -> Reason | None:
    job, holder, now = situation.job, situation.holder, situation.now
    if holder is None or holder.job_id == job.id:
        return None
    behind = situation.ahead_in_queue
    also = f", and {count(behind, 'more job')} that locks it comes first" if behind == 1 else ""
    also = f", and {behind:,} more jobs that lock it come first" if behind > 1 else also
    text = (
        f"job {holder.job_id} ({line(holder.job_type)}) holds the lock of queue {line(job.queue_name)} since "
        f"{clock(holder.since, now)} ({ago(holder.since, now)}), on {line(holder.worker)}{also}"
    )
    advice = f"spoke-jobs why {holder.job_id}"
    if holder.lease_expires_at < now:
        lapsed = ago(holder.lease_expires_at, now)
        text += f"; its lease ended {lapsed}, so its worker may be gone"
        advice = f"a running worker ends such an attempt and frees the queue, within a lease's time; {advice}"
    return Reason(Code.QUEUE_LOCK, text, advice, job_id=holder.job_id, worker=holder.worker, number=behind)


def _for_a_worker(situation: Situation, held: bool) -> Iterator[Reason]:
    job, now = situation.job, situation.now
    if held:
        return
    waited = now - max(_due_since(job), _queue_free_since(situation))
    running = sum(load.running - load.lapsed for load in situation.load)
    busy = f"{count(running, 'job')} {'runs' if running == 1 else 'run'} now{_on(situation)}"
    later = _passed_over(situation)
    if later and waited >= _SOON:
        yield Reason(
            Code.PASSED_OVER,
            f"workers have started {count(len(later), 'later job')} since it was due, the last "
            f"{ago(later[0].claimed_at, now)} on {line(later[0].worker)}, but not this one: it seems that no running "
            f"worker knows {line(job.job_type)}",
            "deploy workers whose SPOKE_APP declares the type, or correct the name and dispatch again",
            number=len(later),
            worker=later[0].worker,
        )
    elif running == 0 and waited >= _SOON and not _seen_just_now(situation):
        yield _no_worker(situation, waited)
    elif situation.ahead:
        code = Code.QUEUE_TURN if situation.ahead == situation.ahead_in_queue else Code.BEHIND
        whose = "of its queue " if code is Code.QUEUE_TURN else ""
        yield Reason(
            code,
            f"it is the {ordinal(situation.ahead + 1)} that is due, by priority, then by age: "
            f"{count(situation.ahead, 'job')} {whose}{'comes' if situation.ahead == 1 else 'come'} first; {busy}",
            number=situation.ahead,
        )
    elif running and waited >= _SOON:
        seen = any(trace.job_type == job.job_type for trace in situation.traces)
        kind = line(job.job_type)
        yield Reason(
            Code.WORKERS_BUSY,
            f"it is the next one, and no worker has been free for it for {seconds(waited.total_seconds())}: {busy}",
            "" if seen else f"no recent attempt was of its type: see that a worker's SPOKE_APP declares {kind}",
            number=running,
        )
    else:
        yield Reason(Code.NEXT, "it is the next one: it starts when a worker polls or is notified")


def _no_worker(situation: Situation, waited: timedelta) -> Reason:
    job, now = situation.job, situation.now
    seen = _last_sign(situation)
    last = "the ledger has no trace of one" if seen is None else f"the last sign of one was {ago(seen, now)}"
    unseen = not any(trace.job_type == job.job_type for trace in situation.traces)
    lapsed = sum(load.lapsed for load in situation.load)
    gone = f", and {count(lapsed, 'running job')} lost the lease" if lapsed else ""
    legacy = job.runner == "legacy"
    advice = "start one: `spoke-jobs worker`" if legacy else f"see that the workers of {line(job.runner)} run"
    if job.assigned and legacy:
        advice = "the process that dispatched it should run it (JOBS_SAME_PROCESS): if that is gone, start a worker"
    elif unseen:
        advice += f"; if one runs, its SPOKE_APP doesn't declare {line(job.job_type)}"
    return Reason(
        Code.NO_WORKER,
        f"due for {seconds(waited.total_seconds())}, and no worker for the runner {line(job.runner)} takes it: "
        f"nothing runs, {last}{gone}",
        advice,
    )


def _due_since(job: JobRequest) -> datetime:
    return max(job.created_at, job.run_after) if job.run_after else max(job.created_at, job.updated_at)


def _queue_free_since(situation: Situation) -> datetime:
    """Return when its queue became free. Before that, no worker could claim the job."""
    job = situation.job
    ends = [
        trace.finished_at
        for trace in situation.traces
        if job.locks_queue and trace.locks_queue and trace.queue_name == job.queue_name and trace.finished_at
    ]
    return max(ends, default=job.created_at)


def _passed_over(situation: Situation) -> list[Trace]:
    """Return the attempts of later jobs that were claimed while this one could have been."""
    job = situation.job
    since = max(_due_since(job), _queue_free_since(situation))
    return [
        trace
        for trace in situation.traces
        if trace.claimed_at > since and (-trace.priority, trace.job_id) > (-job.priority, job.id)
    ]


def _last_sign(situation: Situation) -> datetime | None:
    return max((trace.heartbeat_at for trace in situation.traces), default=None)


def _seen_just_now(situation: Situation) -> bool:
    """Whether a worker was active a moment ago: between two short jobs nothing runs."""
    sign = _last_sign(situation)
    return sign is not None and situation.now - sign < _SOON


def _on(situation: Situation) -> str:
    names = [line(load.worker) for load in situation.load if load.running > load.lapsed]
    if not names:
        return ""
    return f" on {names[0]}" if len(names) == 1 else f" on {len(names)} workers"


def _said(message: str) -> str:
    return f" ({line(message, MESSAGE_LIMIT)})" if message else ""
