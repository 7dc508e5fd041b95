"""Explain what a waiting job waits for, from the ledger. Pure.

The ledger knows workers only by the attempts that they claim. Whether a worker runs, and whether it knows a type, can
only be concluded from these attempts, and the texts say so.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime

from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.contract.advice import limit_advice
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.executors import LANE_RUNNER, Executor
from spoke_jobs.contract.names import spokejob_name
from spoke_jobs.contract.wait_reasons import LONG, WAITS, Wait, WaitReason
from spoke_jobs.contract.wait_text import sentence
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.in_cluster import in_the_cluster
from spoke_jobs.explain.limit_texts import forgotten_pause
from spoke_jobs.explain.lock_holders import progress_of
from spoke_jobs.explain.moves import moves
from spoke_jobs.explain.passed_over import SOON, claimable_since, later_claims, may_be_known, passed_over
from spoke_jobs.explain.reasons import MESSAGE_LIMIT, Reason, waits_for, when
from spoke_jobs.explain.words import ago, clock, count, line, seconds, until
from spoke_jobs.ledger.claims.eligibility import start_deadline, waiting_since
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.reading.dependency_queries import Link
from spoke_jobs.ledger.reading.situations import Situation, Turns
from spoke_jobs.model import JobRequest, JobState

_COMMANDS = {"legacy": "spoke-jobs worker", LANE_RUNNER: "spoke-jobs worker --lane worker"}
"""What starts a worker, by the runner of the rows that it claims."""


def waiting(situation: Situation, cluster: ClusterView | None = None) -> Iterator[Reason]:
    job, now = situation.job, situation.now
    if job.executor is Executor.OTHERS:
        yield waits_for(
            WaitReason.TAKEN,
            "other code has marked it as assigned, and runs it (docs/how-to/migrating.md)",
            f"if that code is gone and the job may be repeated: `spoke-jobs cancel {job.id}`, then "
            f"`spoke-jobs retry {job.id}`",
        )
        return
    if (held := suspended(situation)) is not None:
        yield held
        # Sync does not create its SpokeJob. One that there is shows what the operator knows.
        if job.executor is not Executor.CLUSTER or job.submitted_at is None:
            return
    if job.executor is Executor.CLUSTER:
        if cluster is not None and not cluster.problem and cluster.spokejob is not None:
            yield from in_the_cluster(situation, cluster)
            return  # the operator decides the rest: the queue's lock, the time, the limits
        yield from _in_the_cluster(situation, cluster)
    if (due := job.due_later(now)) is not None:
        yield _later(job, due, now)
        return  # nobody knows yet which jobs will come first at that time
    known = (_unmet(situation), *_limited(situation), _held(situation))
    holds = [reason for reason in known if reason is not None]
    yield from holds
    if job.executor is not Executor.CLUSTER:
        yield from _for_a_worker(situation, bool(holds))
        if not holds and (reason := moves(job, now)) is not None:
            yield reason
        if (reason := _start_by(job, now)) is not None:
            yield reason


def _unmet(situation: Situation) -> Reason | None:
    if (unmet := situation.unmet) is None:
        return None
    return waits_for(WaitReason.NOT_CLAIMABLE, f"no worker starts it: {unmet.text}", unmet.advice)


def _start_by(job: JobRequest, now: datetime) -> Reason | None:
    """Say until when it must have started. In a cluster the operator decides that, from the creation of each Job."""
    deadline = start_deadline(job)
    if deadline is None or deadline <= now:
        return None
    limit = seconds(job.options.start_timeout_seconds or 0)
    text = (
        f"unless it has started by {clock(deadline, now)} ({when(deadline, now)}), it fails with StartTimeout (its "
        f"start timeout is {limit})"
    )
    return Reason(Code.START_BY, text, until=deadline)


def suspended(situation: Situation) -> Reason | None:
    """Say who suspended a job, when and why; None if nobody has."""
    if not (said := suspension_text(situation)):
        return None
    return waits_for(WaitReason.SUSPENDED, said, f"to let it start: `spoke-jobs resume {situation.job.id}`")


def suspension_text(situation: Situation) -> str:
    """Return a sentence about who suspended the job, when and why; empty if nobody has."""
    job, now, known = situation.job, situation.now, situation.suspension
    if job.suspended_at is None:
        return ""
    who = f" by {line(known.by)}" if known.by else ""
    why = f": {line(known.reason, MESSAGE_LIMIT)}" if known.reason else ""
    return f"it was suspended at {clock(job.suspended_at, now)} ({ago(job.suspended_at, now)}){who}{why}"


def blocked(situation: Situation) -> Iterator[Reason]:
    """Name the jobs that a blocked job waits for, with their progress."""
    job, found = situation.job, situation.blocking
    if (held := suspended(situation)) is not None:
        yield held
    total = sum(number for _, number in found.counts)
    states = ", ".join(f"{number:,} {state}" for state, number in found.counts)
    if found.batch is not None:
        yield _behind_batch(found.batch)
    if total:
        yield waits_for(
            WaitReason.BLOCKED,
            f"it runs after {count(total, 'job')} that {'has' if total == 1 else 'have'} not ended ({states})",
            number=total,
        )
    for link in found.first:
        yield waits_for(
            WaitReason.BLOCKED,
            f"job {link.needs_id} ({line(link.job_type)}) is {_progress(link)}",
            f"spoke-jobs why {link.needs_id}",
            job_id=link.needs_id,
        )
    if (due := job.due_later(situation.now)) is not None:
        yield _later(job, due, situation.now)


def _behind_batch(batch: Batch) -> Reason:
    left = batch.total - batch.succeeded - batch.failed
    failed = f", {batch.failed:,} of them failed" if batch.failed else ""
    text = (
        f"it follows batch {batch.id} ({line(batch.name)}): {batch.succeeded + batch.failed:,} of "
        f"{count(batch.total, 'job')} ended{failed}"
    )
    if batch.closed_at is None:
        advice = f"if its dispatching process is gone: `spoke-jobs batches close {batch.id}`"
        return waits_for(WaitReason.BLOCKED, f"{text}; it is open, so more jobs may be added", advice, number=left)
    unfinished = "--state running --state waiting --state blocked"
    advice = f"`spoke-jobs ls --batch {batch.id} {unfinished}` lists them" if left else ""
    return waits_for(WaitReason.BLOCKED, text, advice, number=left)


def _progress(link: Link) -> str:
    if link.state is JobState.RUNNING:
        return f"running, {link.percent} % done"
    return f"{link.state}, after {line(link.cause)}" if link.cause else link.state.value


def _in_the_cluster(situation: Situation, cluster: ClusterView | None) -> Iterator[Reason]:
    job, now = situation.job, situation.now
    name = spokejob_name(job.job_type, job.id, job.uid, job.run)
    if cluster is not None and cluster.problem:
        yield Reason(
            Code.CLUSTER_UNKNOWN,
            f"the cluster could not be read: {line(cluster.problem, MESSAGE_LIMIT)}",
            "set SPOKE_NAMESPACE and KUBECONFIG, or run the command where the job's cluster can be reached",
        )
    elif cluster is not None and not cluster.unreadable and job.submitted_at is not None:
        yield waits_for(
            WaitReason.SPOKEJOB_GONE,
            f"its SpokeJob {name}, created {ago(job.submitted_at, now)}, no longer exists",
            "`spoke-jobs sync` ends the job as SpokeJobDeleted within 30 s: check that it runs",
        )
        return
    if job.submitted_at is not None:
        yield waits_for(
            WaitReason.SUBMITTED,
            f"its SpokeJob {name} was created at {clock(job.submitted_at, now)} ({ago(job.submitted_at, now)}); the "
            "ledger does not record what it waits for in the cluster",
            f"kubectl describe spokejob {name}",
        )
        return
    if job.due_later(now) is not None:
        return  # sync creates it when it is due
    if cluster is not None and cluster.excluded:
        yield waits_for(
            WaitReason.NOT_SUBMITTED,
            f"sync does not launch it: the PodTemplate {line(job.options.pod_template)} is not for jobs of the type "
            f"{line(job.job_type)}; unless that is corrected within its start timeout, it fails with TypeNotAllowed",
            line(Cause.TYPE_NOT_ALLOWED.advise(job.id)),
            cause=Cause.TYPE_NOT_ALLOWED,
        )
        return
    late = now - waiting_since(job) > 2 * SOON  # it may just have moved to a pod
    yield waits_for(
        WaitReason.NOT_SUBMITTED,
        f"it has no SpokeJob yet; its name will be {name}",
        "check that `spoke-jobs sync` runs, and read its log: due jobs get their SpokeJobs in seconds" if late else "",
    )


def _later(job: JobRequest, when: datetime, now: datetime) -> Reason:
    at = f"{clock(when, now)} ({until(when, now)})"
    if not job.cause:
        return waits_for(WaitReason.DUE_LATER, f"it does not start before {at}", until=when)
    said = _said(job.result_message)
    if job.cause == Cause.RETRY_LATER:
        return waits_for(WaitReason.ASKED_LATER, f"it asked to be run again later{said}: not before {at}", until=when)
    return waits_for(
        WaitReason.BACKING_OFF,
        f"attempt {job.attempt} failed with {job.cause}{said}; attempt {job.attempt + 1} follows at {at}",
        until=when,
    )


def _held(situation: Situation) -> Reason | None:
    job, holder, now = situation.job, situation.holder, situation.now
    if holder is None or (holder.job_id == job.id and holder.lease_expires_at is not None):
        return None
    behind = situation.ahead_in_queue
    least = "at least " if situation.more_ahead else ""
    also = f", and {least}{count(behind, 'more job')} that locks it comes first" if behind == 1 else ""
    also = f", and {least}{behind:,} more jobs that lock it come first" if behind > 1 else also
    on = f", on {line(holder.worker)}{progress_of(holder, now)}" if holder.lease_expires_at is not None else ""
    text = (
        f"job {holder.job_id} ({line(holder.job_type)}) has held the lock of queue {line(job.queue_name)} since "
        f"{clock(holder.since, now)} ({ago(holder.since, now)}){on}{also}"
    )
    advice = f"spoke-jobs why {holder.job_id}"
    if holder.lease_expires_at is None:
        text += "; no attempt of it runs: other code has written the lock"
        advice = "within some seconds, a running worker or sync deletes the lock"
    elif holder.lease_expires_at < now:
        lapsed = ago(holder.lease_expires_at, now)
        text += f"; its lease ended {lapsed}, so its worker may be gone"
        advice = f"within the time of one lease, a running worker ends that attempt and frees the queue; {advice}"
    return waits_for(WaitReason.QUEUE_LOCKED, text, advice, job_id=holder.job_id, worker=holder.worker, number=behind)


def _limited(situation: Situation) -> Iterator[Reason]:
    """The pauses or the limit that workers obey. In a cluster the operator has its own."""
    if situation.limit is not None and situation.job.executor is not Executor.CLUSTER:
        for wait in (situation.limit, *situation.more_pauses):
            yield _limited_by(wait, situation.now)


def _limited_by(wait: Wait, now: datetime) -> Reason:
    paused = wait.code == WaitReason.PAUSED
    scope = wait.object if paused else wait.source.removeprefix("limit ")
    doubt = forgotten_pause(wait, now)
    return waits_for(
        WAITS[wait.code],
        line(sentence(wait), MESSAGE_LIMIT),
        f"{f'{doubt} ' if doubt else ''}To end the pause: `spoke-jobs resume {shlex.quote(scope)}`"
        if paused
        else limit_advice(wait, scope),
        until=wait.retry_at,
        number=wait.running,
        cause=wait.code,
        scope=scope,
    )


def _for_a_worker(situation: Situation, held: bool) -> Iterator[Reason]:
    if held:
        return
    job, now, takers = situation.job, situation.now, situation.takers
    waited = now - claimable_since(job, takers)
    running = sum(load.running - load.lapsed for load in takers.load)
    busy = f"{count(running, 'job')} {'runs' if running == 1 else 'run'} now{_on(situation)}"
    turns = f"; {said}" if (said := _in_turns(situation.turns)) else ""
    later = passed_over(job, takers, now, limited=situation.limited)
    if later and waited >= SOON:
        yield waits_for(
            WaitReason.PASSED_OVER,
            f"workers have started {count(len(later), 'later job')} since it was due, the last "
            f"{ago(later[0].claimed_at, now)} on {line(later[0].worker)}, but not this one: it seems that no running "
            f"worker knows {line(job.job_type)}, or takes its queue",
            "deploy workers whose SPOKE_APP declares the type, and whose patterns (--type, --queue) let the job pass, "
            "or correct the name and dispatch again",
            number=len(later),
            worker=later[0].worker,
        )
    elif running == 0 and waited >= SOON and not _seen_just_now(situation):
        yield _no_worker(situation)
    elif situation.ahead or situation.more_ahead:
        in_queue = situation.ahead == situation.ahead_in_queue and not situation.more_ahead
        whose = f" of its queue {line(job.queue_name)}" if in_queue else ""
        least = "at least " if situation.more_ahead else ""
        known = (
            f"{least}{count(situation.ahead, 'due job')}{whose} {'comes' if situation.ahead == 1 else 'come'} first: "
            f"of a higher priority, or older ones{_of_its_own(job, situation.turns)}"
        )
        yield waits_for(
            WaitReason.QUEUE_TURN if in_queue else WaitReason.BEHIND,
            f"{known if situation.ahead else _not_counted(job, situation.turns)}{turns}; {busy}",
            _not_taken(situation) if waited >= LONG else "",
            number=situation.ahead,
        )
    elif running and waited >= SOON:
        yield waits_for(
            WaitReason.WORKERS_BUSY,
            f"it is the next one{_of_its_own(job, situation.turns)}, and no worker has been free for it for "
            f"{seconds(waited.total_seconds())}{turns}; {busy}",
            _not_taken(situation),
            number=running,
        )
    else:
        yield waits_for(
            WaitReason.NEXT,
            "it is the next one: it starts when a worker polls or is notified",
            _not_taken(situation) or WaitReason.NEXT.group_advice if waited >= SOON else "",
        )


def _not_counted(job: JobRequest, turns: Turns) -> str:
    """Say which jobs were examined if none of them is sure to start before the job."""
    if not _takes_turns(job, turns):
        return "many jobs of locked queues or full limits come first: of a higher priority, or older ones"
    return "it is not known how many due jobs come first: many wait for locks or limits, or take turns with it"


def _takes_turns(job: JobRequest, turns: Turns) -> bool:
    """Whether the job's organization takes turns with others, or may do so."""
    return turns.organizations > 0 or turns.without or (turns.more and job.organization_id is not None)


def _of_its_own(job: JobRequest, turns: Turns) -> str:
    """Say whose jobs come in the order of their age, if organizations take turns."""
    if not _takes_turns(job, turns):
        return ""
    return " without an organization" if job.organization_id is None else f" of organization {job.organization_id}"


def _in_turns(turns: Turns) -> str:
    """Say who takes turns with the job's organization; empty if nobody does."""
    parts = [count(turns.organizations, "other organization")] if turns.organizations else []
    parts += ["the jobs without an organization"] if turns.without else []
    if not parts:
        return ""
    one = turns.organizations == 1 and not turns.without
    return f"{'at least ' if turns.more else ''}{' and '.join(parts)} {'takes' if one else 'take'} turns with it"


def _not_taken(situation: Situation) -> str:
    """Return what to check if it is not known whether a worker takes the job; empty if that is known."""
    job, takers = situation.job, situation.takers
    if not may_be_known(job, takers, situation.now):
        return f"no worker is known to have run its type: check that a worker's SPOKE_APP declares {line(job.job_type)}"
    if job.queue_name and later_claims(job, takers, limited=situation.limited):
        return f"later jobs have started since it was due: check that a worker takes the queue {line(job.queue_name)}"
    return ""


def _no_worker(situation: Situation) -> Reason:
    job, now = situation.job, situation.now
    due = now - waiting_since(job)
    seen = _last_sign(situation)
    last = "the ledger has no trace of one" if seen is None else f"the last sign of one was {ago(seen, now)}"
    unseen = not any(trace.job_type == job.job_type for trace in situation.takers.traces)
    lapsed = sum(load.lapsed for load in situation.takers.load)
    gone = f", and {count(lapsed, 'running job')} lost the lease" if lapsed else ""
    command = _COMMANDS.get(job.runner)
    advice = f"start one: `{command}`" if command else f"check that the workers of {line(job.runner)} run"
    if job.runner == LANE_RUNNER:
        advice += " or, if an autoscaler runs its workers, check that it reads sync's /scale"
    if job.assigned and job.runner == "legacy":
        advice = "the process that dispatched it should run it (JOBS_SAME_PROCESS); if it is gone, start a worker"
    elif unseen:
        advice += (
            f"; if one runs, its SPOKE_APP doesn't declare {line(job.job_type)}, or its patterns (--type, --queue) "
            "leave the job out"
        )
    return waits_for(
        WaitReason.NO_WORKER,
        f"it has been due for {seconds(due.total_seconds())}, and no worker for the runner {line(job.runner)} takes "
        f"it: nothing runs, {last}{gone}",
        advice,
    )


def _last_sign(situation: Situation) -> datetime | None:
    return max((trace.heartbeat_at for trace in situation.takers.traces), default=None)


def _seen_just_now(situation: Situation) -> bool:
    """Whether a worker was active a moment ago: between two short jobs nothing runs."""
    sign = _last_sign(situation)
    return sign is not None and situation.now - sign < SOON


def _on(situation: Situation) -> str:
    names = [line(load.worker) for load in situation.takers.load if load.running > load.lapsed]
    if not names:
        return ""
    return f" on {names[0]}" if len(names) == 1 else f" on {len(names)} workers"


def _said(message: str) -> str:
    return f" ({line(message, MESSAGE_LIMIT)})" if message else ""
