"""Explain what a job waits for in its cluster, and where it runs there. Pure: from a ClusterView."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from spoke_jobs.cluster.cluster_view import SILENCE, ClusterView
from spoke_jobs.contract import wait_text
from spoke_jobs.contract.advice import cluster_group_advice, waiting_advice
from spoke_jobs.contract.cause_row import with_id
from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.condition import Condition
from spoke_jobs.contract.custom_resources.spokejob import Outcome, SpokeJob, SpokeJobStatus
from spoke_jobs.contract.executors import Lane
from spoke_jobs.contract.operator_state import PublishedStandby
from spoke_jobs.contract.standby import NO_ANSWER
from spoke_jobs.contract.wait_reasons import FOR_A_PLACE, UNTIMED, WAITS, Wait, WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.lock_holders import progress_of
from spoke_jobs.explain.reasons import (
    MESSAGE_LIMIT,
    SEE_TO_THE_OPERATOR,
    Reason,
    in_short,
    obstacle_in_short,
    waits_for,
    when,
)
from spoke_jobs.explain.words import ago, clock, count, line, ordinal, seconds, until
from spoke_jobs.ledger.reading.holders import Holder
from spoke_jobs.ledger.reading.situations import Situation
from spoke_jobs.shared.object_fields import moment

_UNSEEN = timedelta(seconds=15)
"""A running operator reconciles a new SpokeJob well within this time."""
_NOT_LISTENING = "they do not listen yet, because the import takes long, or a NetworkPolicy keeps the operator away"
_WITH_TURNS = FOR_A_PLACE - {WaitReason.PAUSED, WaitReason.QUEUE_LOCKED, WaitReason.WEBHOOK_AWAY}
"""The reasons for which a job waits for its turn under a limit."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The inputs of an explanation."""

    situation: Situation
    cluster: ClusterView
    spokejob: SpokeJob

    @property
    def now(self) -> datetime:
        return self.situation.now

    @property
    def status(self) -> SpokeJobStatus:
        return self.spokejob.status

    @property
    def no_operator(self) -> Reason | None:
        return _no_operator(self.cluster, self.spokejob, self.now)


def in_the_cluster(situation: Situation, cluster: ClusterView) -> Iterator[Reason]:
    """Explain what a job waits for, from its SpokeJob. The first check of :data:`CHECKS` that applies decides."""
    assert cluster.spokejob is not None
    seen = _Seen(situation, cluster, cluster.spokejob)
    if not _is_anothers(seen) and seen.no_operator is not None:
        yield seen.no_operator
    for applies, explain in CHECKS:
        if applies(seen):
            yield from explain(seen)
            break
    if not _is_anothers(seen) and not _has_ended(seen):
        yield from _without_standby(seen)


def _is_anothers(seen: _Seen) -> bool:
    return seen.spokejob.spec.uid != seen.situation.job.uid


def _anothers(seen: _Seen) -> Iterator[Reason]:
    yield Reason(
        Code.CLUSTER,
        f"the SpokeJob {seen.spokejob.name} belongs to a job of another database",
        _advice(seen, Cause.NAME_TAKEN),
        cause=Cause.NAME_TAKEN,
    )


def _has_ended(seen: _Seen) -> bool:
    return seen.status.is_final


def _ended(seen: _Seen) -> Iterator[Reason]:
    status = seen.status
    assert status.outcome is not None
    yield Reason(
        Code.CLUSTER,
        f"its SpokeJob {seen.spokejob.name} has ended on the cluster ({status.cause or status.outcome.value}), and the "
        "ledger does not know it yet",
        "`spoke-jobs sync` copies the end to the ledger within seconds: check that it runs",
        cause=status.cause,
    )


def _is_new(seen: _Seen) -> bool:
    return seen.status.outcome is None


def _new(seen: _Seen) -> Iterator[Reason]:
    if seen.no_operator is None:
        since = ago(seen.spokejob.created_at, seen.now)
        yield waits_for(WaitReason.SUBMITTED, f"its SpokeJob {seen.spokejob.name} was created {since}")


def _runs(seen: _Seen) -> bool:
    return seen.status.outcome is Outcome.RUNNING


def _backs_off(seen: _Seen) -> bool:
    return seen.status.next_attempt_at is not None and seen.status.next_attempt_at > seen.now


def _has_an_attempt(seen: _Seen) -> bool:
    return seen.spokejob.status.open_attempt is not None


def _starting(seen: _Seen) -> Iterator[Reason]:
    situation, spokejob, now = seen.situation, seen.spokejob, seen.now
    attempt = spokejob.status.open_attempt
    if attempt is None:
        return
    known = next((a for a in situation.attempts if (a.run, a.number) == (spokejob.spec.run, attempt.number)), None)
    if known is not None and known.finished_at is not None:
        yield Reason(
            Code.CLUSTER,
            f"its attempt {attempt.number} has ended with {line(known.cause)}, which the operator has not recorded yet",
            worker=attempt.pod,
        )
        return
    since = f" since {clock(attempt.started_at, now)}" if attempt.started_at else ""
    node = f" on node {attempt.node}" if attempt.node else ""
    yield Reason(
        Code.CLUSTER,
        f"the pod {attempt.pod} of its attempt {attempt.number} runs{node}{since} and hasn't claimed the job yet: the "
        "pod loads the application, or waits for the database",
        f"its output: spoke-jobs logs {spokejob.spec.request_id} -f",
        worker=attempt.pod,
    )


def _backing_off(seen: _Seen) -> Iterator[Reason]:
    status, due, now = seen.status, seen.status.next_attempt_at, seen.now
    assert due is not None
    yield waits_for(
        WaitReason.BACKING_OFF,
        f"attempt {status.attempt} ended with {line(status.cause)}{_said(seen.spokejob.status.condition('Running'))}; "
        f"attempt {status.attempt + 1} follows at {clock(due, now)} ({until(due, now)})",
        _advice_meanwhile(seen),
        until=due,
        cause=status.cause,
    )


def _advice_meanwhile(seen: _Seen) -> str:
    """Return the advice for the time until the next attempt. An attempt that did not start waited for something."""
    cause, attempts = seen.status.cause, seen.status.attempts
    reason = WAITS.get(attempts[-1].reason) if attempts and cause == Cause.START_TIMEOUT else None
    if reason is not None and reason.remedy:
        text = with_id(reason.advice, seen.situation.job.id, attempts[-1].container)
        return line(f"{text} The job is tried again.")
    return _advice(seen, cause, tried_again=True)


def _pending(seen: _Seen) -> Iterator[Reason]:
    """Explain an attempt whose Job exists and whose pod does not run yet."""
    spokejob, now = seen.spokejob, seen.now
    attempt, status = spokejob.status.open_attempt, spokejob.status
    assert attempt is not None
    reason = status.cause or WaitReason.POD_PENDING
    begun = attempt.started_at or spokejob.created_at
    # An operator of an older release does not say when it ends the attempt.
    known = status.waiting.ends_at if status.waiting and status.waiting.code == reason else None
    deadline = known or begun + timedelta(seconds=spokejob.spec.start_timeout_seconds)
    ends = f"; unless it runs by {clock(deadline, now)} ({when(deadline, now)}) the attempt ends"
    if reason in UNTIMED:
        ends = ""
    said = spokejob.status.condition("Running")
    what = (
        _quota(status.waiting.to_wait() if status.waiting else None)
        or in_short(
            reason,
            said.message if said else "",
            seen.cluster.pulls,
            status.waiting.object if status.waiting else "",
        )
        or f"{_meaning(reason)}{_said(said)}"
    )
    yield Reason(
        Code.CLUSTER,
        f"attempt {attempt.number} (started {ago(begun, now)}): {what}{ends}",
        _advice(seen, reason),
        until=None if not ends else deadline,
        cause=reason,
    )


def _held(seen: _Seen) -> Iterator[Reason]:
    """Explain why the next attempt has no Job yet."""
    spokejob, now, holder = seen.spokejob, seen.now, seen.cluster.holder
    wait = _wait(seen)
    if wait.code == WaitReason.QUEUE_LOCKED and holder is not None:
        yield _behind(holder, spokejob.spec.queue, now, seen.situation.holder)
    else:
        blocked = spokejob.status.condition("Blocked")
        deadline = None
        if blocked is not None:
            deadline = blocked.last_transition_time + timedelta(seconds=spokejob.spec.start_timeout_seconds)
        ends = f"; unless that is fixed by {clock(deadline, now)} ({when(deadline, now)}) it fails" if deadline else ""
        yield Reason(
            Code.CLUSTER,
            f"{_why_held(wait, spokejob.spec.pod_template)}{ends}",
            _advice(seen, wait.code),
            until=deadline,
            cause=wait.code,
        )
    published = seen.cluster.published
    if published is not None and wait.position is not None and wait.code in _WITH_TURNS:
        yield Reason(
            Code.TURN,
            f"{count(published.waiting, 'job')} of the namespace {'waits' if published.waiting == 1 else 'wait'}; "
            f"it is the {ordinal(wait.position + 1)} in the order of turns",
            number=wait.position,
        )


def _wait(seen: _Seen) -> Wait:
    """Return what the job waits for, from the operator's fields, with the job's published position.

    The condition's message is used only where the fields are not enough for a sentence: for what Kubernetes said, and
    if an operator of an older release wrote fewer fields.
    """
    name, published, waiting = seen.spokejob.name, seen.cluster.published, seen.status.waiting
    position = published.turns.index(name) if published is not None and name in published.turns else None
    admitted = seen.spokejob.status.condition("Admitted")
    message = admitted.message if admitted else ""
    if waiting is None or waiting.code != seen.status.cause:
        return Wait(seen.status.cause, detail=message, position=position)
    wait = waiting.to_wait(position=position)
    return wait if wait_text.is_complete(wait) else replace(wait, detail=message)


def _quota(wait: Wait | None) -> str:
    """Say which ResourceQuota is used up; empty if that is not known or not the reason."""
    if wait is None or wait.code != WaitReason.QUOTA_EXCEEDED or not wait.quota:
        return ""
    return line(wait_text.sentence(replace(wait, detail="")), MESSAGE_LIMIT)


def _why_held(wait: Wait, template: str) -> str:
    message = wait_text.sentence(wait)
    if wait.code == WaitReason.PAUSED and message:
        return line(message, MESSAGE_LIMIT)
    if wait.code in _WITH_TURNS and message and (setting := wait.source or WAITS[wait.code].setting):
        # an operator of an older release does not name the limit's object
        return f"limit: {line(message, MESSAGE_LIMIT)}{'' if wait.source else f' ({setting})'}"
    if wait.code == WaitReason.SUSPENDED:
        return f"it is suspended: {_meaning(wait.code)}"
    short = obstacle_in_short(wait, message)
    if wait.code == WaitReason.PODS_NOT_STARTING:
        about = f"{wait.object}: {short}" if short else line(message, MESSAGE_LIMIT)
        why = f" ({about})" if about else ""
        return f"pods of the PodTemplate {line(template)} can't start, or are refused{why}; a few are tried each minute"
    said = f" ({line(message, MESSAGE_LIMIT)})" if message else ""
    return _quota(wait) or short or f"{_meaning(wait.code) or 'its turn is being decided'}{said}"


def _without_standby(seen: _Seen) -> Iterator[Reason]:
    """Say why the job's PodTemplate has no standby pods, if the job wants one and has none."""
    spec, attempt, published = seen.spokejob.spec, seen.spokejob.status.open_attempt, seen.cluster.published
    if spec.lane != Lane.STANDBY or published is None or (attempt is not None and attempt.lane):
        return
    found = next((item for item in published.standby if item.template == spec.pod_template), None)
    if found is None:
        return
    template = line(spec.pod_template)
    why = why_no_standby(found, seen.now)
    yield Reason(
        Code.STANDBY,
        f"the PodTemplate {template} has no standby pods: {why}; the job gets a pod of its own",
        f"the Events of the PodTemplate: kubectl describe podtemplate {template}",
    )


def why_no_standby(found: PublishedStandby, now: datetime) -> str:
    """Say why a PodTemplate has no standby pods, or lacks some: the end of a sentence about it."""
    return line(found.problem, MESSAGE_LIMIT) if found.problem else _hindrance(found) or _failure(found, now)


def _failure(found: PublishedStandby, now: datetime) -> str:
    what, at = line(found.failure or "", MESSAGE_LIMIT), moment({"at": found.retry_at or ""}, "at")
    said = f" with {what}" if what in CAUSES else f" ({what})" if what else ""
    tried = f", and the next one is tried at {clock(at, now)} ({until(at, now)})" if at and at > now else ""
    return f"the last one failed{said}{tried}"


def _hindrance(found: PublishedStandby) -> str:
    if not found.hindrance:
        return ""
    what = _NOT_LISTENING if found.hindrance == NO_ANSWER else _meaning(found.hindrance)
    return f"those that start are not ready ({what})"


CHECKS: tuple[tuple[Callable[[_Seen], bool], Callable[[_Seen], Iterator[Reason]]], ...] = (
    (_is_anothers, _anothers),
    (_has_ended, _ended),
    (_is_new, _new),
    (_runs, _starting),
    (_backs_off, _backing_off),
    (_has_an_attempt, _pending),
    (lambda seen: True, _held),
)
"""Pairs of a check and its explanation. The first check that applies decides."""


def running_in(cluster: ClusterView) -> Iterator[Reason]:
    """Say where a running job's pod is."""
    attempt = cluster.spokejob.status.open_attempt if cluster.spokejob else None
    if cluster.spokejob is not None and attempt is not None and attempt.pod:
        node = f" on node {attempt.node}" if attempt.node else ""
        yield Reason(
            Code.CLUSTER,
            f"its pod is {attempt.pod}{node}",
            f"its output: spoke-jobs logs {cluster.spokejob.spec.request_id} -f",
            worker=attempt.pod,
        )


def _no_operator(cluster: ClusterView, spokejob: SpokeJob, now: datetime) -> Reason | None:
    """Return a reason if no operator runs. An operator that can't publish its state may still handle SpokeJobs."""
    published = cluster.published
    age = now - spokejob.created_at
    unhandled = spokejob.status.outcome is None and age > _UNSEEN
    if published is not None and now - published.at > SILENCE and (unhandled or age > SILENCE):
        text = f"no operator has been seen for {seconds((now - published.at).total_seconds())}"
    elif unhandled:
        text = f"no operator has handled its SpokeJob, which was created {ago(spokejob.created_at, now)}"
        text += f"; the last sign of one was {ago(published.at, now)}" if published is not None else ""
    else:
        return None
    return waits_for(WaitReason.NO_OPERATOR, text, SEE_TO_THE_OPERATOR)


def _behind(holder: SpokeJob, queue: str, now: datetime, claimed: Holder | None = None) -> Reason:
    attempt = holder.status.open_attempt
    state = ""
    if attempt is not None and holder.status.outcome is Outcome.RUNNING and attempt.started_at is not None:
        node = f" on node {attempt.node}" if attempt.node else ""
        state = f", running {seconds((now - attempt.started_at).total_seconds())}{node}"
    elif attempt is not None:
        state = f", whose pod is starting ({holder.status.cause or WaitReason.POD_PENDING})"
    spec = holder.spec
    if claimed is not None and claimed.job_id == spec.request_id:
        state += progress_of(claimed, now)
    return waits_for(
        WaitReason.QUEUE_LOCKED,
        f"behind {line(spec.job_type)} {spec.request_id} in queue {line(queue)}{state}",
        f"spoke-jobs why {spec.request_id}",
        job_id=spec.request_id,
        worker=attempt.pod if attempt else None,
        cause=WaitReason.QUEUE_LOCKED,
    )


def _said(condition: Condition | None) -> str:
    return f" ({line(condition.message, MESSAGE_LIMIT)})" if condition is not None and condition.message else ""


def _meaning(name: str) -> str:
    return line((wait_text.meaning(name) or name).rstrip("."))


def _advice(seen: _Seen, name: str, *, tried_again: bool = False) -> str:
    if tried_again and (cause := CAUSES.get(name)) is not None:
        return line(cause.advise(seen.situation.job.id, tried_again=True))
    waiting = seen.status.waiting
    wait = waiting.to_wait() if waiting is not None and waiting.code == name else Wait(name)
    said = seen.status.said(name)
    if name == WaitReason.PODS_NOT_STARTING and said:
        return line(cluster_group_advice(replace(wait, detail=said), seen.situation.job.id, seen.now))
    wait = replace(wait, detail=said) if name == Cause.IMAGE_UNAVAILABLE else wait
    return line(waiting_advice(wait, seen.situation.job.id, seen.now, seen.cluster.namespace))
