"""Group the waiting and the recently failed jobs by reason, with one action for each group. Pure.

A job that a worker could start is explained like a single one (:mod:`.waiting`), from the attempts of its runner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from spoke_jobs.cluster.cluster_view import SpokeJobWaits, WaitingSpokeJob
from spoke_jobs.contract import wait_text
from spoke_jobs.contract.advice import (
    cluster_group_advice,
    failed_group_advice,
    ledger_group_advice,
    limit_advice,
    more_pauses_advice,
    pause_advice,
    room_advice,
)
from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.wait_reasons import WAITS, Wait, WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.limit_texts import forgotten_pause
from spoke_jobs.explain.lock_holders import progress_of
from spoke_jobs.explain.passed_over import SOON, claimable_since, passed_over
from spoke_jobs.explain.reasons import MESSAGE_LIMIT, obstacle_in_short
from spoke_jobs.explain.words import ago, agreeing, clock, count, line, memory, seconds, until
from spoke_jobs.ledger.claims.eligibility import EXPLAINED
from spoke_jobs.ledger.reading.crowd import FailedCount, Share, WaitingCount, WaitingKind, largest_first
from spoke_jobs.ledger.reading.crowd_facts import Crowd
from spoke_jobs.ledger.reading.failure_facts import FailureFacts
from spoke_jobs.ledger.reading.takers import NOBODY, Takers

_SHORT_WAIT = timedelta(minutes=1)
"""A wait for a free worker needs no action before."""
_FAILS_NOW = timedelta(hours=1)
"""If the last failure is younger, more may follow."""
_ENOUGH_PEAKS = 5
_GROWTH = 1.25
_CROWD = 10
"""Of so many waiting jobs is said whose most of them are."""


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
    job_type: str = ""
    """The type of failed jobs; empty if they have several."""
    wait: Wait | None = None
    """The pause, limit or rate of the ledger that holds them back, or what their SpokeJobs say."""
    tried_at: datetime | None = None
    """When the first attempt of the jobs that are tried again began."""
    scope: str = ""
    """The scope of that pause or limit of the ledger."""
    message: str = ""
    """What that job says of its failure; empty if it is not known."""
    holder_id: int | None = None
    """The job that holds the lock for which they wait."""
    batch_id: int | None = None
    """The batch whose failed jobs kept the only job of the group from being started."""
    where: tuple[tuple[str, str], ...] = ()
    """Filters of the dashboard's list of jobs, by name, which these jobs match; empty for a group of one job, and if no
    filter is narrow enough."""


class _Finding(NamedTuple):
    reason: WaitReason
    about: str
    """What distinguishes groups with the same reason."""


class _Workers(NamedTuple):
    """What is known of the workers of one runner, for thousands of kinds of jobs."""

    takers: Takers
    busy: bool
    seen: datetime | None
    """When one of them gave a sign last."""

    @classmethod
    def of(cls, takers: Takers) -> _Workers:
        """Sum up what is known of them."""
        busy = any(one.running > one.lapsed for one in takers.load)
        return cls(takers, busy, max((trace.heartbeat_at for trace in takers.traces), default=None))


class _Finder:
    """Finds what the jobs of one kind wait for."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._workers: dict[str, _Workers] = {}

    def find(self, each: WaitingCount) -> _Finding:
        """Find what the jobs of one kind wait for."""
        kind, crowd = each.kind, self._crowd
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
        if kind.unmet:
            return _Finding(WaitReason.NOT_CLAIMABLE, kind.unmet)
        if (wait := crowd.held.get(kind)) is not None:
            more = (each.source for each in crowd.more_pauses.get(kind, ()))
            return _Finding(WAITS[wait.code], " ".join((wait.source, wait.object, *more)))
        if kind.holder is not None:
            return _Finding(WaitReason.QUEUE_LOCKED, str(kind.holder))
        workers, waited = self._of(kind.runner), crowd.now - each.oldest_at
        if waited >= SOON and self._passed_over(each, workers.takers):
            return _Finding(WaitReason.PASSED_OVER, kind.job_type)
        if workers.busy:
            return _Finding(WaitReason.WORKERS_BUSY, kind.runner)
        if waited >= SOON and (workers.seen is None or crowd.now - workers.seen >= SOON):
            return _Finding(WaitReason.NO_WORKER, kind.runner)
        about = f"{kind.runner} {_is_new(each, crowd)} {_should_have_begun(each, crowd)}"
        return _Finding(WaitReason.NEXT, about)

    def _of(self, runner: str) -> _Workers:
        if runner not in self._workers:
            self._workers[runner] = _Workers.of(self._crowd.takers.get(runner, NOBODY))
        return self._workers[runner]

    def _passed_over(self, each: WaitingCount, takers: Takers) -> bool:
        """Whether no running worker takes the first of these jobs."""
        crowd, first = self._crowd, self._crowd.first_jobs.get(each.first_id)
        return first is not None and bool(passed_over(first, takers, crowd.now, limited=each.kind in crowd.limited))


def groups(crowd: Crowd, in_cluster: Iterable[WaitingSpokeJob] = (), most: int | None = None) -> tuple[Group, ...]:
    """Group jobs: first the waiting ones, then the failed ones, in each case the largest group first.

    :param in_cluster: what the SpokeJobs say. Jobs whose SpokeJob says nothing are grouped by what the ledger knows.
    :param most: the most groups of waiting jobs, and of failed ones, that are returned. There may be thousands.
    """
    finder = _Finder(crowd)
    found: dict[tuple[str, str], list[WaitingSpokeJob]] = {}
    for spokejob in in_cluster:
        found.setdefault((spokejob.wait.code, spokejob.wait.holder or spokejob.wait.object), []).append(spokejob)
    members: dict[_Finding, list[WaitingCount]] = {}
    for each in crowd.waiting:
        members.setdefault(finder.find(each), []).append(each)
    members = _joined_by_message(members, crowd)
    explained = sum(len(spokejobs) for spokejobs in found.values())
    waiting: list[tuple[int, str, Callable[[], Group]]] = [
        (len(spokejobs), code, partial(_in_the_cluster, spokejobs, crowd.now)) for (code, _), spokejobs in found.items()
    ]
    for finding, counts in members.items():
        number = sum(each.count for each in counts)
        if finding.reason == WaitReason.SUBMITTED:
            number -= explained  # their SpokeJobs say more
        if number > 0:
            waiting.append((number, finding.reason.code, partial(_waiting, finding, counts, crowd, number)))
    largest = sorted(waiting, key=lambda one: (-one[0], one[1]))[:most]
    failed = largest_first(crowd.failed)[:most]
    return (*(make() for _, _, make in largest), *(_failed(each, crowd) for each in failed))


def oldest_of(group: Group, now: datetime) -> str:
    """Say for how long the oldest job of a group has waited; empty for jobs that have failed or are due later."""
    if group.state == "failed" or group.oldest_at is None or group.oldest_at > now:
        return ""
    return f"{agreeing(group.count, '', 'the oldest ')}for {seconds((now - group.oldest_at).total_seconds())}"


def has_spokejobs(crowd: Crowd) -> bool:
    """Whether SpokeJobs can say more about the jobs that wait."""
    return any(each.kind.executor is Executor.CLUSTER and each.kind.submitted for each in crowd.waiting)


def unread(waits: SpokeJobWaits) -> tuple[str, ...]:
    """Say in sentences what the groups lack because not all SpokeJobs were read."""
    if waits.problem:
        return (f"The cluster could not be read: {line(waits.problem, MESSAGE_LIMIT)}",)
    return ("There are more SpokeJobs than were read; the ledger counts the rest.",) if waits.more else ()


def reasons(crowd: Crowd) -> Mapping[WaitingKind, WaitReason]:
    """Return the reason of each kind of waiting jobs."""
    finder = _Finder(crowd)
    return MappingProxyType({each.kind: finder.find(each).reason for each in crowd.waiting})


def tried_again(crowd: Crowd) -> int:
    """Return how many jobs have failed and are tried again."""
    finder = _Finder(crowd)
    return sum(
        each.count
        for each in crowd.waiting
        if each.kind.later and each.kind.cause and finder.find(each).reason == WaitReason.BACKING_OFF
    )


def _at_any_time(kind: WaitingKind) -> WaitReason | None:
    """Return what jobs wait for whether or not their time has come; None if that decides."""
    if kind.blocked:
        return WaitReason.BLOCKED
    if kind.executor is Executor.OTHERS:
        return WaitReason.TAKEN
    return WaitReason.SUSPENDED if kind.suspended else None


def _joined_by_message(
    members: Mapping[_Finding, list[WaitingCount]], crowd: Crowd
) -> dict[_Finding, list[WaitingCount]]:
    """Join the groups of jobs that are tried again after failures with the same cause and message."""
    joined: dict[_Finding, list[WaitingCount]] = {}
    for finding, counts in members.items():
        first = min(counts, key=lambda each: each.first_id)
        message = _message(first.first_id, crowd) if finding.reason == WaitReason.BACKING_OFF else ""
        about = f"{first.kind.cause}: {message}" if message else finding.about
        joined.setdefault(finding._replace(about=about), []).extend(counts)
    return joined


def _message(job_id: int, crowd: Crowd) -> str:
    facts = crowd.facts.get(job_id)
    return line(facts.message, MESSAGE_LIMIT) if facts is not None else ""


def _is_new(each: WaitingCount, crowd: Crowd) -> bool:
    """Whether the jobs have just become due."""
    return crowd.now - each.oldest_at < SOON


def _should_have_begun(each: WaitingCount, crowd: Crowd) -> bool:
    """Whether an idle worker that takes the first of these jobs would have started it by now."""
    if (first := crowd.first_jobs.get(each.first_id)) is None:
        return not _is_new(each, crowd)
    takers = crowd.takers.get(each.kind.runner, NOBODY)
    return crowd.now - max(each.oldest_at, claimable_since(first, takers)) >= SOON


def _waiting(finding: _Finding, counts: list[WaitingCount], crowd: Crowd, number: int) -> Group:
    first = min(counts, key=lambda each: each.oldest_at)
    kind = first.kind
    places = {each.kind.fingerprint for each in counts}
    again = kind.later and kind.cause and not kind.suspended
    one = min(counts, key=lambda each: each.first_id).first_id if again else first.first_id
    message = _message(one, crowd) if again else ""
    return Group(
        "blocked" if finding.reason == WaitReason.BLOCKED else "waiting",
        finding.reason.code,
        _text(finding, first, crowd, number, len(places)),
        number,
        first.oldest_at,
        _advice(finding, first, crowd, number, one, with_message=bool(message)),
        kind.fingerprint if len(places) == 1 else "",
        job_id=one,
        name=finding.reason,
        wait=crowd.held.get(kind),
        tried_at=min((each.tried_at for each in counts if each.tried_at), default=None)
        if kind.later and not kind.suspended
        else None,
        scope=_scope(crowd.held.get(kind)),
        message=message,
        holder_id=kind.holder if finding.reason == WaitReason.QUEUE_LOCKED else None,
        where=_where(finding, first, crowd, len(places)) if number > 1 else (),
    )


def _advice(
    finding: _Finding, first: WaitingCount, crowd: Crowd, number: int, job_id: int, *, with_message: bool
) -> str:
    kind, wait = first.kind, crowd.held.get(first.kind)
    if finding.reason == WaitReason.WORKERS_BUSY:
        return _busy_advice(finding, first, crowd, number)
    if finding.reason == WaitReason.NEXT and not _should_have_begun(first, crowd):
        return ""
    if finding.reason == WaitReason.NOT_CLAIMABLE:
        return EXPLAINED[finding.about].advice
    if finding.reason.code is Code.LIMIT:
        return limit_advice(crowd.held[kind], _scope(wait))
    advised = ledger_group_advice(
        finding.reason,
        job_id=job_id if kind.holder is None else kind.holder,
        job_type=line(kind.job_type),
        cause="" if kind.suspended else kind.cause,
        scope=_scope(wait),
        with_message=with_message,
    )
    if more := crowd.more_pauses.get(kind):
        advised = f"{advised} {more_pauses_advice([each.object for each in more])}"
    doubt = forgotten_pause(wait, crowd.now) if wait is not None else ""
    return f"{doubt} {advised}" if doubt else advised


def _where(finding: _Finding, first: WaitingCount, crowd: Crowd, places: int) -> tuple[tuple[str, str], ...]:
    """Return filters that the jobs match. The first job alone may have started when somebody opens it."""
    kind, found = first.kind, {"state": "blocked" if first.kind.blocked else "waiting"}
    match finding.reason:
        case WaitReason.BACKING_OFF | WaitReason.ASKED_LATER:
            found |= {"cause": kind.cause, "fingerprint": kind.fingerprint if places == 1 else ""}
        case WaitReason.PASSED_OVER:
            found["type"] = kind.job_type
        case WaitReason.QUEUE_LOCKED:
            holder = crowd.holders.get(kind.holder or 0)
            found["queue"] = holder.queue_name if holder is not None else ""
        case _ if finding.reason.code in (Code.PAUSED, Code.LIMIT):
            form, _, name = _scope(crowd.held.get(kind)).partition(":")
            found |= {form: name} if form in ("type", "queue", "organization") else {}
    return tuple((name, value) for name, value in found.items() if value and "*" not in value)


def _scope(wait: Wait | None) -> str:
    """Return the scope of a pause or a limit of the ledger."""
    if wait is None:
        return ""
    return wait.object if wait.code == WaitReason.PAUSED else wait.source.removeprefix("limit ")


def _text(finding: _Finding, first: WaitingCount, crowd: Crowd, number: int, places: int) -> str:
    kind = first.kind
    be = agreeing(number, "is", "are")
    if kind.later and not kind.blocked and not kind.suspended:
        return _later(first, crowd.now, number, places)
    if finding.reason.code in (Code.PAUSED, Code.LIMIT):
        return f"{agreeing(number, 'waits', 'wait')}: {line(wait_text.sentence(crowd.held[kind]))}"
    match finding.reason:
        case WaitReason.QUEUE_LOCKED:
            return _behind(kind.holder, crowd, number)
        case WaitReason.PASSED_OVER:
            return (
                f"of the type {line(kind.job_type)} {be} passed over: it seems that no running worker knows the type, "
                "or takes their queues"
            )
        case WaitReason.WORKERS_BUSY:
            return _busy(finding, crowd, number)
        case WaitReason.NOT_CLAIMABLE:
            them = agreeing(number, "it", "them")
            return f"{be} due, and no worker starts {them}: {EXPLAINED[finding.about].text}"
        case WaitReason.NO_WORKER:
            them = agreeing(number, "it", "them")
            return f"{be} due, and no worker for the runner {line(kind.runner)} takes {them}"
        case WaitReason.NEXT if not _is_new(first, crowd):
            return f"{be} due, and no worker has taken {agreeing(number, 'it', 'them')} yet"
        case _:
            return agreeing(number, *_SENTENCES[finding.reason])


def _busy(finding: _Finding, crowd: Crowd, number: int) -> str:
    running = sum(one.running - one.lapsed for one in crowd.takers.get(finding.about, NOBODY).load)
    text = (
        f"{agreeing(number, 'is', 'are')} due and {agreeing(number, 'waits', 'wait')} for a free worker: "
        f"{count(running, 'job')} {agreeing(running, 'runs', 'run')} now"
    )
    if (share := _large_share(finding, crowd, number)) is None:
        return text
    of = "" if share.organization_id is None else f" of organization {share.organization_id}"
    also = f", and {min(share.running, running):,} of the running ones," if share.running else ""
    return f"{text}; {share.waiting:,} of the waiting jobs{also} are {line(share.job_type)}{of}"


def _busy_advice(finding: _Finding, first: WaitingCount, crowd: Crowd, number: int) -> str:
    if crowd.now - first.oldest_at < _SHORT_WAIT:
        return ""
    share = _large_share(finding, crowd, number)
    if share is None or share.running < 2 or share.waiting == number:
        return finding.reason.group_advice
    scope = f"type:{share.job_type}" if share.organization_id is None else f"organization:{share.organization_id}"
    return room_advice(scope, share.running // 2)


def _large_share(finding: _Finding, crowd: Crowd, number: int) -> Share | None:
    """Return the type and organization of most of the jobs; None if there is none, or if they are few."""
    share = crowd.shares.get(finding.about)
    if share is None or number < _CROWD or not number < 2 * share.waiting <= 2 * number:
        return None
    return share


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


def _later(first: WaitingCount, now: datetime, number: int, places: int) -> str:
    kind = first.kind
    be = agreeing(number, "is", "are")
    at = f"{agreeing(number, '', 'the first ')}at {clock(first.oldest_at, now)} ({until(first.oldest_at, now)})"
    if not kind.cause:
        return f"{be} to start later, {at}"
    if kind.cause == Cause.RETRY_LATER:
        return f"asked to be run again later, {at}"
    place = f" {line(kind.fingerprint)}" if kind.fingerprint else ""
    place = f" at {places} places" if places > 1 else place
    return f"failed with {line(kind.cause)}{place} and {be} tried again, {at}"


def _behind(holder_id: int | None, crowd: Crowd, number: int) -> str:
    holder = crowd.holders.get(holder_id or 0)
    behind = f"{agreeing(number, 'waits', 'wait')} for job {holder_id}"
    if holder is None:
        return behind
    held = seconds(max((crowd.now - holder.since).total_seconds(), 0))
    queue = line(holder.queue_name) or agreeing(number, "its queue", "their queue")
    return (
        f"{behind} ({line(holder.job_type)}), which has held the lock of {queue} for {held}"
        f"{progress_of(holder, crowd.now)}"
    )


def _in_the_cluster(spokejobs: list[WaitingSpokeJob], now: datetime) -> Group:
    wait = min((spokejob.wait for spokejob in spokejobs), key=lambda wait: wait.since or now)
    first = min(spokejob.job_id for spokejob in spokejobs)
    said = next((spokejob.message for spokejob in spokejobs if spokejob.message), "") if _unsaid(wait) else ""
    templates = {spokejob.template for spokejob in spokejobs if spokejob.template}
    of_pods = wait.code in CAUSES or wait.code == WaitReason.PODS_NOT_STARTING
    of = f"for pods of the PodTemplate {line(min(templates))} " if of_pods and len(templates) == 1 else ""
    return Group(
        "waiting",
        wait.code,
        f"{agreeing(len(spokejobs), 'waits', 'wait')} {of}{line(wait_text.group_text(wait))}",
        len(spokejobs),
        min((spokejob.created_at for spokejob in spokejobs if spokejob.created_at), default=None),
        cluster_group_advice(replace(wait, detail=said) if said else wait, first, now, spokejobs[0].namespace),
        job_id=first,
        name=wait.code,
        wait=wait,
        message=obstacle_in_short(wait, said) or line(said, MESSAGE_LIMIT),
        where=_where_in_the_cluster(spokejobs) if len(spokejobs) > 1 else (),
    )


def _where_in_the_cluster(spokejobs: list[WaitingSpokeJob]) -> tuple[tuple[str, str], ...]:
    """Return filters that the jobs match. The ledger does not know what SpokeJobs wait for."""
    found = {"state": {"waiting"}, "type": {each.job_type for each in spokejobs}}
    found |= {"queue": {each.queue for each in spokejobs}}
    found |= {"organization": {str(each.organization or "") for each in spokejobs}}
    common = [(name, min(values)) for name, values in found.items() if len(values) == 1]
    return tuple((name, value) for name, value in common if value and "*" not in value)


def _unsaid(wait: Wait) -> bool:
    """Whether only Kubernetes' message says what the obstacle is."""
    return not wait_text.says_all(wait)


def _failed(each: FailedCount, crowd: Crowd) -> Group:
    facts = crowd.facts.get(each.newest_id)
    message = _message(each.newest_id, crowd)
    signal = facts.error_type if facts is not None and each.cause == Cause.KILLED else ""
    job_type = each.job_type if each.of_one_type else ""
    batch = facts.batch if facts is not None and each.count == 1 else None
    advised = failed_group_advice(
        each.cause,
        each.fingerprint,
        each.newest_id,
        job_type=job_type,
        error_type=signal,
        executor=facts.executor if facts is not None else None,
        with_message=bool(message),
        batch_id=batch.id if batch is not None else None,
    )
    of_type = _none_succeeds(each, facts, crowd.now)
    if of_type and crowd.now - each.newest_at < _FAILS_NOW:
        advised = f"{advised} {pause_advice(f'type:{job_type}', each.cause)}".lstrip()
    return Group(
        "failed",
        each.cause,
        f"{_how(each, signal)}, {_most_recently(each, crowd.now)}{of_type}{_growth(each, facts)}",
        each.count,
        each.oldest_at,
        advised,
        each.fingerprint,
        each.newest_at,
        each.newest_id,
        each.cause,
        job_type,
        message=message,
        batch_id=batch.id if batch is not None else None,
    )


def _how(each: FailedCount, signal: str) -> str:
    kind = f"of the type {line(each.job_type)}" if each.of_one_type else f"of {each.types} types"
    by = f" ({line(signal)})" if signal else ""
    place = f": {line(each.fingerprint)}" if each.fingerprint else ""
    return f"{kind} failed with {line(each.cause)}{by}{place}"


def _most_recently(each: FailedCount, now: datetime) -> str:
    return f"{agreeing(each.count, '', 'most recently ')}{ago(each.newest_at, now)} (job {each.newest_id})"


def _growth(each: FailedCount, facts: FailureFacts | None) -> str:
    """Say that the memory of the type's successes has grown; empty if it has not, or if they have several types."""
    peaks = facts.peaks if facts is not None and each.of_one_type else ()
    if len(peaks) < _ENOUGH_PEAKS or peaks[0] < _GROWTH * peaks[-1]:
        return ""
    return f"; the memory of its newest {len(peaks)} successes grew from {memory(peaks[-1])} to {memory(peaks[0])}"


def _none_succeeds(each: FailedCount, facts: FailureFacts | None, now: datetime) -> str:
    """Say that no job of their type has succeeded since the first of many failures; empty if that is not so."""
    last = facts.last_success_at if facts is not None else None
    if not each.tells_of_type or last is None or last > each.oldest_at:
        return ""
    success = f"the last success was {ago(last, now)}"
    return f"; no job of the type has succeeded since the first of them, at {clock(each.oldest_at, now)}: {success}"
