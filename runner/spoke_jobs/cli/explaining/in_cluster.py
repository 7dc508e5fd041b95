"""What a job waits for in its cluster, and where it runs there: pure, from what was found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from spoke_jobs.cli.explaining.in_short import in_short
from spoke_jobs.cli.explaining.reasons import MESSAGE_LIMIT, SEE_TO_THE_OPERATOR, Code, Reason, when
from spoke_jobs.cli.words import ago, clock, count, line, ordinal, seconds, until
from spoke_jobs.cluster.cluster_view import SILENCE, ClusterView
from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.spokejob import AttemptStatus, Condition, Outcome, SpokeJob
from spoke_jobs.contract.wait_reasons import WAITS, WaitReason
from spoke_jobs.ledger.queries import Situation

_UNSEEN = timedelta(seconds=15)
"""An operator that is there looks at a new SpokeJob well within this."""
_FOR_A_PLACE = {
    WaitReason.QUEUE_LIMIT_REACHED,
    WaitReason.ORGANIZATION_LIMIT_REACHED,
    WaitReason.NAMESPACE_LIMIT_REACHED,
    WaitReason.LIMIT_REACHED,
}


def in_the_cluster(situation: Situation, cluster: ClusterView) -> Iterator[Reason]:
    """What a waiting job waits for, by its SpokeJob."""
    spokejob, now = cluster.spokejob, situation.now
    assert spokejob is not None
    if spokejob.spec.uid != situation.job.uid:
        yield Reason(
            Code.CLUSTER,
            f"the SpokeJob {spokejob.name} is another database's: it is not this job's",
            _advice(Cause.NAME_TAKEN),
            cause=Cause.NAME_TAKEN,
        )
        return
    silent = _no_operator(cluster, spokejob, now)
    if silent is not None:
        yield silent
    status = spokejob.status
    if status.outcome is not None and status.outcome.final:
        yield Reason(
            Code.CLUSTER,
            f"its SpokeJob {spokejob.name} has ended on the cluster ({status.cause or status.outcome.value}), and the "
            "ledger doesn't know yet",
            "`spoke-jobs sync` brings it there within seconds: see that it runs",
            cause=status.cause,
        )
    elif status.outcome is None:
        if silent is None:
            yield Reason(Code.SUBMITTED, f"its SpokeJob {spokejob.name} was created {ago(spokejob.created_at, now)}")
    elif status.outcome is Outcome.RUNNING:
        yield from _starting(situation, spokejob, now)
    elif status.next_attempt_at is not None and status.next_attempt_at > now:
        yield _backing_off(spokejob, status.next_attempt_at, now)
    elif open_attempt(spokejob) is not None:
        yield _pending(cluster, spokejob, now)
    else:
        yield from _held(cluster, spokejob, now)


def running_in(cluster: ClusterView) -> Iterator[Reason]:
    """Where a running job's pod is."""
    attempt = open_attempt(cluster.spokejob) if cluster.spokejob else None
    if cluster.spokejob is not None and attempt is not None and attempt.pod:
        node = f" on node {attempt.node}" if attempt.node else ""
        yield Reason(
            Code.CLUSTER,
            f"its pod is {attempt.pod}{node}",
            f"its output: spoke-jobs logs {cluster.spokejob.spec.request_id} -f",
            worker=attempt.pod,
        )


def open_attempt(spokejob: SpokeJob) -> AttemptStatus | None:
    """The attempt that is under way."""
    newest = spokejob.status.attempts[-1] if spokejob.status.attempts else None
    return newest if newest is not None and newest.finished_at is None else None


def _no_operator(cluster: ClusterView, spokejob: SpokeJob, now: datetime) -> Reason | None:
    """Whether an operator is at work. One without a place to publish in is known by what it does."""
    published = cluster.published
    age = now - spokejob.created_at
    unlooked = spokejob.status.outcome is None and age > _UNSEEN
    if published is not None and now - published.at > SILENCE and (unlooked or age > SILENCE):
        text = f"no operator has been seen for {seconds((now - published.at).total_seconds())}"
    elif unlooked:
        text = f"no operator has looked at its SpokeJob since it was created {ago(spokejob.created_at, now)}"
        text += f"; the last sign of one was {ago(published.at, now)}" if published is not None else ""
    else:
        return None
    return Reason(Code.NO_OPERATOR, text, SEE_TO_THE_OPERATOR)


def _starting(situation: Situation, spokejob: SpokeJob, now: datetime) -> Iterator[Reason]:
    attempt = open_attempt(spokejob)
    if attempt is None:
        return
    known = next((a for a in situation.attempts if (a.run, a.number) == (spokejob.spec.run, attempt.number)), None)
    if known is not None and known.finished_at is not None:
        yield Reason(
            Code.CLUSTER,
            f"its attempt {attempt.number} has ended with {line(known.cause)}, and the operator has not noted it yet",
            worker=attempt.pod,
        )
        return
    since = f" since {clock(attempt.started_at, now)}" if attempt.started_at else ""
    node = f" on node {attempt.node}" if attempt.node else ""
    yield Reason(
        Code.CLUSTER,
        f"the pod {attempt.pod} of its attempt {attempt.number} runs{node}{since} and hasn't claimed it yet: it loads "
        "the application, or waits for the database",
        f"its output: spoke-jobs logs {spokejob.spec.request_id} -f",
        worker=attempt.pod,
    )


def _backing_off(spokejob: SpokeJob, due: datetime, now: datetime) -> Reason:
    status = spokejob.status
    return Reason(
        Code.BACKOFF,
        f"attempt {status.attempt} ended with {line(status.cause)}{_said(_condition(spokejob, 'Running'))}; attempt "
        f"{status.attempt + 1} follows at {clock(due, now)} ({until(due, now)})",
        _advice(status.cause),
        until=due,
        cause=status.cause,
    )


def _pending(cluster: ClusterView, spokejob: SpokeJob, now: datetime) -> Reason:
    """Its Job is there, its pod doesn't run yet."""
    attempt, status = open_attempt(spokejob), spokejob.status
    assert attempt is not None
    reason = status.cause or WaitReason.POD_PENDING
    begun = attempt.started_at or spokejob.created_at
    deadline = begun + timedelta(seconds=spokejob.spec.start_timeout_seconds)
    ends = f"; unless it runs by {clock(deadline, now)} ({when(deadline, now)}) the attempt ends"
    if reason == WaitReason.QUEUED_BY_KUEUE:
        ends = ""
    said = _condition(spokejob, "Running")
    what = in_short(reason, said.message if said else "", cluster.pulls) or f"{_meaning(reason)}{_said(said)}"
    return Reason(
        Code.CLUSTER,
        f"attempt {attempt.number}, {ago(begun, now)} begun: {what}{ends}",
        _advice(reason),
        until=None if not ends else deadline,
        cause=reason,
    )


def _held(cluster: ClusterView, spokejob: SpokeJob, now: datetime) -> Iterator[Reason]:
    """It has no Job yet."""
    cause = spokejob.status.cause
    admitted = _condition(spokejob, "Admitted")
    if cause == WaitReason.QUEUE_LOCKED and cluster.holder is not None:
        yield _behind(cluster.holder, spokejob.spec.queue, now)
    else:
        blocked = _condition(spokejob, "Blocked")
        deadline = None
        if blocked is not None:
            deadline = blocked.last_transition_time + timedelta(seconds=spokejob.spec.start_timeout_seconds)
        ends = f"; unless that is mended by {clock(deadline, now)} ({when(deadline, now)}) it fails" if deadline else ""
        yield Reason(
            Code.CLUSTER,
            f"{_why_held(cause, admitted)}{ends}",
            _advice(cause),
            until=deadline,
            cause=cause,
        )
    published = cluster.published
    if published is not None and spokejob.name in published.turns and cause in _FOR_A_PLACE:
        place = published.turns.index(spokejob.name)
        yield Reason(
            Code.TURN,
            f"it is the {ordinal(place + 1)} in turn of {count(published.waiting, 'job')} that wait in the namespace",
            number=place,
        )


def _why_held(cause: str, admitted: Condition | None) -> str:
    message = admitted.message if admitted else ""
    if cause in _FOR_A_PLACE and message:
        return f"limit: {line(message, MESSAGE_LIMIT)} ({_setting(cause)})"
    if cause == WaitReason.SUSPENDED:
        return f"it is suspended: {_meaning(cause)}"
    return in_short(cause, message) or f"{_meaning(cause) or 'its turn is being decided'}{_said(admitted)}"


def _setting(cause: str) -> str:
    """The operator's setting of a limit, as the table of waits names it."""
    return WAITS[cause].meaning.split("`")[1]


def _behind(holder: SpokeJob, queue: str, now: datetime) -> Reason:
    attempt = open_attempt(holder)
    state = ""
    if attempt is not None and holder.status.outcome is Outcome.RUNNING and attempt.started_at is not None:
        node = f" on node {attempt.node}" if attempt.node else ""
        state = f", running {seconds((now - attempt.started_at).total_seconds())}{node}"
    elif attempt is not None:
        state = f", whose pod is starting ({holder.status.cause or WaitReason.POD_PENDING})"
    spec = holder.spec
    return Reason(
        Code.QUEUE_LOCK,
        f"behind {line(spec.job_type)} {spec.request_id} in queue {line(queue)}{state}",
        f"spoke-jobs why {spec.request_id}",
        job_id=spec.request_id,
        worker=attempt.pod if attempt else None,
        cause=WaitReason.QUEUE_LOCKED,
    )


def _condition(spokejob: SpokeJob, kind: str) -> Condition | None:
    return next((item for item in spokejob.status.conditions if item.type == kind), None)


def _said(condition: Condition | None) -> str:
    return f" ({line(condition.message, MESSAGE_LIMIT)})" if condition is not None and condition.message else ""


def _meaning(name: str) -> str:
    known = WAITS.get(name) or CAUSES.get(name)
    return line(known.meaning.rstrip(".")) if known else line(name)


def _advice(name: str) -> str:
    known = WAITS.get(name) or CAUSES.get(name)
    return line(known.advice) if known else ""
