"""The counts of :mod:`.crowd`, and the facts that decide when those jobs run, for `why` without an id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, select

from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs.ledger.columns.clock import read_clock
from spoke_jobs.ledger.limits_and_pauses import current_limits
from spoke_jobs.ledger.limits_and_pauses.limit_rows import read_limits
from spoke_jobs.ledger.reading import crowd
from spoke_jobs.ledger.reading.crowd import FailedCount, Share, WaitingCount, WaitingKind
from spoke_jobs.ledger.reading.failure_facts import FailureFacts, failure_facts
from spoke_jobs.ledger.reading.holders import Holder, holders_by_id
from spoke_jobs.ledger.reading.takers import Takers, takers_of
from spoke_jobs.ledger.rows import MANY_COLUMNS, to_request
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.limits.admission import Admission, LimitSet
from spoke_jobs.model import JobFilter, JobRequest

FIRST_JOBS = 50
"""Of how many kinds of due jobs the first job is read."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """The waiting and the recently failed jobs, counted, and the facts that decide when the waiting ones run."""

    now: datetime
    period_seconds: float
    """How long ago a job may have failed."""
    waiting: tuple[WaitingCount, ...] = ()
    failed: tuple[FailedCount, ...] = ()
    holders: Mapping[int, Holder] = field(default_factory=dict)
    """The jobs that hold the queues for which others wait, by their ids."""
    takers: Mapping[str, Takers] = field(default_factory=dict)
    """What is known of the workers, by runner."""
    held: Mapping[WaitingKind, Wait] = field(default_factory=dict)
    """The pause, limit or rate that holds back jobs, by their kind."""
    more_pauses: Mapping[WaitingKind, tuple[Wait, ...]] = field(default_factory=dict)
    """The other pauses that hold back jobs, by their kind."""
    limited: Collection[WaitingKind] = frozenset()
    """The kinds of jobs to which a limit, a rate or a pause applies, even if that does not hold them back now."""
    first_jobs: Mapping[int, JobRequest] = field(default_factory=dict)
    """The first job of each kind that a worker may start now, by id; of at most :data:`FIRST_JOBS` kinds, those that
    have waited for longest."""
    shares: Mapping[str, Share] = field(default_factory=dict)
    """The type and the organization with the most jobs that a worker may start now, by runner."""
    facts: Mapping[int, FailureFacts] = field(default_factory=dict)
    """What is known of the newest failed job of each group, and of the first one that is tried again, by id."""
    more_waiting: bool = False
    """Whether there may be more waiting or blocked jobs than were counted."""


def read_crowd(connection: Connection, period_seconds: float, which: JobFilter, cap: int | None, most: int) -> Crowd:
    """Count the waiting and the recently failed jobs, in the caller's transaction.

    The parameters are those of :meth:`.Queries.crowd`.
    """
    limits = LimitSet(read_limits(connection))
    counts, more = crowd.waiting_counts(connection, limits, which, cap)
    admission = current_limits.read_admission(connection) if limits else Admission(limits, {}, read_clock(connection))
    subjects = {each.kind: each.kind.subject for each in counts if each.kind.executor is not Executor.CLUSTER}
    by_subject = {subject: admission.why_held(subject) for subject in set(subjects.values())}
    waits = {kind: wait for kind, subject in subjects.items() if (wait := by_subject[subject]) is not None}
    of_workers = [each.kind for each in counts if each.kind.executor is Executor.WORKERS]
    runners = sorted({kind.runner for kind in of_workers if not kind.later and not kind.blocked})
    free = [each for each in counts if _may_start(each.kind) and each.kind not in waits]
    free = sorted(free, key=lambda each: (each.oldest_at, each.first_id))[:FIRST_JOBS]
    types = {runner: {each.kind.job_type for each in free if each.kind.runner == runner} for runner in runners}
    failed = crowd.failed_counts(connection, period_seconds, which, cap)
    return Crowd(
        read_clock(connection),
        period_seconds,
        counts,
        failed,
        holders_by_id(connection, _numbers_behind(counts)),
        {runner: takers_of(connection, runner, types[runner]) for runner in runners},
        waits,
        {kind: others for kind in waits if (others := tuple(admission.pauses(subjects[kind]))[1:])},
        {each.kind for each in free if any(limits.of(each.kind.subject))},
        _small_jobs(connection, [each.first_id for each in free]),
        crowd.largest_shares(connection, [runner for runner, found in types.items() if found], which, cap),
        failure_facts(connection, which, failed, counts, most),
        more,
    )


def _may_start(kind: WaitingKind) -> bool:
    """Whether a worker may start the jobs of a kind now, as far as their rows say."""
    waits = kind.later or kind.blocked or kind.holder is not None or kind.unmet
    return not waits and kind.executor is Executor.WORKERS


def _numbers_behind(counts: Iterable[WaitingCount]) -> Mapping[int, int]:
    """Return how many of the jobs wait for each job that holds a lock, by its id."""
    numbers: Counter[int] = Counter()
    for each in counts:
        if each.kind.holder is not None:
            numbers[each.kind.holder] += each.count
    return numbers


def _small_jobs(connection: Connection, ids: Sequence[int]) -> dict[int, JobRequest]:
    if not ids:
        return {}
    rows = connection.execute(select(*MANY_COLUMNS).where(job_request.c.id.in_(ids))).mappings()
    return {row["id"]: to_request(row) for row in rows}
