"""Group the waiting and the recently failed jobs by reason, with one action for each group. Pure.

A job that a worker could start is explained like a single one (:mod:`.waiting`), from the attempts of its runner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from spoke_jobs.cluster.cluster_view import WaitingSpokeJob
from spoke_jobs.contract import wait_text
from spoke_jobs.contract.advice import cluster_group_advice, failed_group_advice, ledger_group_advice
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.wait_reasons import WAITS, Wait, WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.words import ago, agreeing, clock, count, line, seconds, until
from spoke_jobs.ledger.reading.crowd import FailedCount, WaitingCount, WaitingKind
from spoke_jobs.ledger.reading.queries import Crowd, Trace

SOON = timedelta(seconds=5)
"""An idle worker finds a due job well within this time."""


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that wait or have failed for one reason."""

    state: str
    """`waiting`, `blocked` or `failed`."""
    reason: str
    """For `cancel --reason`: a code of the ledger, or the operator's reason or cause. Of failed jobs, the cause."""
    text: str
    """What they wait for, or how they failed: the end of a sentence about the jobs."""
    count: int
    oldest_at: datetime | None
    """Since when the oldest waits, or when it failed. Of jobs that are not due, when the first will be."""
    advice: str = ""
    """One action; empty if nothing needs to be done."""
    fingerprint: str = ""
    newest_at: datetime | None = None
    """When the newest one failed."""
    job_id: int | None = None
    """One of the jobs: of waiting ones the first, of failed ones the newest."""
    name: str = ""
    """The reason to wait or the cause by its one name (docs/reference/causes.md)."""
    job_types: tuple[str, ...] = ()
    """The types of failed jobs."""
    wait: Wait | None = None
    """The pause, limit or rate of the ledger that holds them back, or what their SpokeJobs say."""
    tried_at: datetime | None = None
    """When the first attempt of the jobs that are tried again began."""
    scope: str = ""
    """The scope of that pause or limit of the ledger."""


class _Finding(NamedTuple):
    reason: WaitReason
    about: str
    """What distinguishes groups with the same reason."""


def groups(crowd: Crowd, in_cluster: Iterable[WaitingSpokeJob] = ()) -> tuple[Group, ...]:
    """Group jobs: first the waiting ones, then the failed ones, in each case the largest group first.

    :param in_cluster: what the SpokeJobs say. Jobs whose SpokeJob says nothing are grouped by what the ledger knows.
    """
    found: dict[tuple[str, str], list[WaitingSpokeJob]] = {}
    for spokejob in in_cluster:
        found.setdefault((spokejob.wait.code, spokejob.wait.holder or spokejob.wait.object), []).append(spokejob)
    members: dict[_Finding, list[WaitingCount]] = {}
    for each in crowd.waiting:
        members.setdefault(_find(each, crowd), []).append(each)
    explained = sum(len(spokejobs) for spokejobs in found.values())
    waiting = [_in_the_cluster(spokejobs, crowd.now) for spokejobs in found.values()]
    waiting += [
        group
        for finding, counts in members.items()
        if (group := _waiting(finding, counts, crowd, explained)) is not None
    ]
    failed = [_failed(each, crowd) for each in crowd.failed]
    return tuple(
        sorted(waiting, key=lambda group: (-group.count, group.reason))
        + sorted(failed, key=lambda group: (-group.count, group.reason, group.fingerprint))
    )


def oldest_of(group: Group, now: datetime) -> str:
    """Say for how long the oldest job of a group has waited; empty for jobs that have failed or are due later."""
    if group.state == "failed" or group.oldest_at is None or group.oldest_at > now:
        return ""
    return f"{agreeing(group.count, '', 'the oldest ')}for {seconds((now - group.oldest_at).total_seconds())}"


def has_spokejobs(crowd: Crowd) -> bool:
    """Whether SpokeJobs can say more about the jobs that wait."""
    return any(each.kind.executor is Executor.CLUSTER and each.kind.submitted for each in crowd.waiting)


def reasons(crowd: Crowd) -> Mapping[WaitingKind, str]:
    """Return the reason of each kind of waiting jobs."""
    return MappingProxyType({each.kind: _find(each, crowd).reason.code for each in crowd.waiting})


def _find(each: WaitingCount, crowd: Crowd) -> _Finding:
    """Find what the jobs of one kind wait for."""
    kind = each.kind
    if (reason := _at_any_time(kind)) is not None:
        return _Finding(reason, "")
    if kind.later:
        if not kind.cause:
            return _Finding(WaitReason.DUE_LATER, "")
        if kind.cause == Cause.RETRY_LATER:
            return _Finding(WaitReason.ASKED_LATER, "")
        return _Finding(WaitReason.BACKING_OFF, f"{kind.cause} {kind.fingerprint}")
    if kind.executor is Executor.CLUSTER:
        return _Finding(WaitReason.SUBMITTED if kind.submitted else WaitReason.NOT_SUBMITTED, "")
    if (wait := crowd.held.get(kind)) is not None:
        return _Finding(WAITS[wait.code], f"{wait.source} {wait.object}")
    if kind.holder is not None:
        return _Finding(WaitReason.QUEUE_LOCKED, str(kind.holder))
    traces, load = crowd.traces.get(kind.runner, ()), crowd.load.get(kind.runner, ())
    waited = crowd.now - each.oldest_at
    if waited >= SOON and _passed_over(each, traces):
        return _Finding(WaitReason.PASSED_OVER, kind.job_type)
    if any(one.running > one.lapsed for one in load):
        return _Finding(WaitReason.WORKERS_BUSY, kind.runner)
    seen = max((trace.heartbeat_at for trace in traces), default=None)
    if waited >= SOON and (seen is None or crowd.now - seen >= SOON):
        return _Finding(WaitReason.NO_WORKER, kind.runner)
    return _Finding(WaitReason.NEXT, kind.runner)


def _at_any_time(kind: WaitingKind) -> WaitReason | None:
    """Return what jobs wait for whether or not their time has come; None if that decides."""
    if kind.blocked:
        return WaitReason.BLOCKED
    if kind.executor is Executor.OTHERS:
        return WaitReason.TAKEN
    return WaitReason.SUSPENDED if kind.suspended else None


def _passed_over(each: WaitingCount, traces: Iterable[Trace]) -> bool:
    """Whether workers started later jobs of other types since the first of these was due, and none of this type."""
    first = (-each.kind.priority, each.first_id)
    since = [trace for trace in traces if trace.claimed_at > each.oldest_at]
    later = any((-trace.priority, trace.job_id) > first for trace in since)
    return later and not any(trace.job_type == each.kind.job_type for trace in since)


def _waiting(finding: _Finding, counts: list[WaitingCount], crowd: Crowd, explained: int) -> Group | None:
    number = sum(each.count for each in counts)
    if finding.reason == WaitReason.SUBMITTED:
        number -= explained  # their SpokeJobs say more
        if number <= 0:
            return None
    first = min(counts, key=lambda each: each.oldest_at)
    kind = first.kind
    return Group(
        "blocked" if finding.reason == WaitReason.BLOCKED else "waiting",
        finding.reason.code,
        _text(finding, first, crowd, number),
        number,
        first.oldest_at,
        ledger_group_advice(
            finding.reason,
            job_id=first.first_id if kind.holder is None else kind.holder,
            job_type=line(kind.job_type),
            cause="" if kind.suspended else kind.cause,
            scope=_scope(crowd.held.get(kind)),
        ),
        kind.fingerprint,
        job_id=first.first_id,
        name=finding.reason,
        wait=crowd.held.get(kind),
        tried_at=min((each.tried_at for each in counts if each.tried_at), default=None)
        if kind.later and not kind.suspended
        else None,
        scope=_scope(crowd.held.get(kind)),
    )


def _scope(wait: Wait | None) -> str:
    """Return the scope of a pause or a limit of the ledger."""
    if wait is None:
        return ""
    return wait.object if wait.code == WaitReason.PAUSED else wait.source.removeprefix("limit ")


def _text(finding: _Finding, first: WaitingCount, crowd: Crowd, number: int) -> str:
    kind = first.kind
    be = agreeing(number, "is", "are")
    if kind.later and not kind.blocked and not kind.suspended:
        return _later(first, crowd.now, number)
    if finding.reason.code in (Code.PAUSED, Code.LIMIT):
        return f"{agreeing(number, 'waits', 'wait')}: {line(wait_text.sentence(crowd.held[kind]))}"
    match finding.reason:
        case WaitReason.QUEUE_LOCKED:
            return _behind(kind.holder, crowd, number)
        case WaitReason.PASSED_OVER:
            return f"of the type {line(kind.job_type)} {be} passed over: it seems that no running worker knows the type"
        case WaitReason.WORKERS_BUSY:
            running = sum(one.running - one.lapsed for one in crowd.load.get(kind.runner, ()))
            return (
                f"{be} due and {agreeing(number, 'waits', 'wait')} for a free worker: {count(running, 'job')} "
                f"{agreeing(running, 'runs', 'run')} now"
            )
        case WaitReason.NO_WORKER:
            them = agreeing(number, "it", "them")
            return f"{be} due, and no worker for the runner {line(kind.runner)} takes {them}"
        case _:
            return agreeing(number, *_SENTENCES[finding.reason])


_SENTENCES = {
    WaitReason.TAKEN: (
        "is marked as assigned by other code, which runs it",
        "are marked as assigned by other code, which runs them",
    ),
    WaitReason.SUSPENDED: ("is suspended", "are suspended"),
    WaitReason.BLOCKED: ("depends on jobs that have not ended", "depend on jobs that have not ended"),
    WaitReason.NOT_SUBMITTED: ("is due and has no SpokeJob yet", "are due and have no SpokeJob yet"),
    WaitReason.SUBMITTED: (
        "has a SpokeJob; the ledger does not know what it waits for in the cluster",
        "have a SpokeJob; the ledger does not know what they wait for in the cluster",
    ),
    WaitReason.NEXT: (
        "has just become due: it starts when a worker polls or is notified",
        "have just become due: they start when a worker polls or is notified",
    ),
}
"""The sentences about one job and about several ones."""


def _later(first: WaitingCount, now: datetime, number: int) -> str:
    kind = first.kind
    be = agreeing(number, "is", "are")
    at = f"{agreeing(number, '', 'the first ')}at {clock(first.oldest_at, now)} ({until(first.oldest_at, now)})"
    if not kind.cause:
        return f"{be} to start later, {at}"
    if kind.cause == Cause.RETRY_LATER:
        return f"asked to be run again later, {at}"
    place = f" {line(kind.fingerprint)}" if kind.fingerprint else ""
    return f"failed with {line(kind.cause)}{place} and {be} tried again, {at}"


def _behind(holder_id: int | None, crowd: Crowd, number: int) -> str:
    holder = crowd.holders.get(holder_id or 0)
    behind = f"{agreeing(number, 'is', 'are')} behind job {holder_id}"
    if holder is None:
        return behind
    held = seconds(max((crowd.now - holder.since).total_seconds(), 0))
    their = agreeing(number, "its", "their")
    return f"{behind} ({line(holder.job_type)}), which has held the lock of {their} queue for {held}"


def _in_the_cluster(spokejobs: list[WaitingSpokeJob], now: datetime) -> Group:
    wait = min((spokejob.wait for spokejob in spokejobs), key=lambda wait: wait.since or now)
    first = min(spokejob.job_id for spokejob in spokejobs)
    return Group(
        "waiting",
        wait.code,
        f"{agreeing(len(spokejobs), 'waits', 'wait')} {line(wait_text.group_text(wait))}",
        len(spokejobs),
        min((spokejob.created_at for spokejob in spokejobs if spokejob.created_at), default=None),
        cluster_group_advice(wait, first, now),
        job_id=first,
        name=wait.code,
        wait=wait,
    )


def _failed(each: FailedCount, crowd: Crowd) -> Group:
    types = each.job_types
    kind = f"of the type {line(types[0])}" if len(types) == 1 else f"of {len(types)} types"
    place = f": {line(each.fingerprint)}" if each.fingerprint else ""
    last = f"{agreeing(each.count, '', 'the last ')}{ago(each.newest_at, crowd.now)} (job {each.newest_id})"
    return Group(
        "failed",
        each.cause,
        f"{kind} failed with {line(each.cause)}{place}, {last}",
        each.count,
        each.oldest_at,
        failed_group_advice(each.cause, each.fingerprint, each.newest_id),
        each.fingerprint,
        each.newest_at,
        each.newest_id,
        each.cause,
        types,
    )
