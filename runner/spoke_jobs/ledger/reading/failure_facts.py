"""What is known of one job of each group of failures, for `why` without an id: what it says, and how it compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, desc, func, select

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.executors import Executor, executor_of
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.reading.crowd import FailedCount, WaitingCount, largest_first
from spoke_jobs.ledger.reading.dependency_queries import failed_batch_before
from spoke_jobs.ledger.reading.usage_queries import SUCCEEDED, usage_of
from spoke_jobs.ledger.sql.expressions import constant
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import JobFilter, JobState

FACTS = 50
"""Of how many groups of each state one job is read: of the largest ones."""
_MESSAGE_LIMIT = 500
_PEAKS = 20


@dataclass(frozen=True, slots=True)
class FailureFacts:
    """What is known of a job that failed, for good or until its next attempt."""

    message: str
    """The beginning of why it failed, in its own words."""
    error_type: str = ""
    """The class of the exception of its newest attempt or, if its process was killed, the signal."""
    last_success_at: datetime | None = None
    """When the newest success of its type ended; None if none is known. Only of groups that failed for good and that
    :attr:`tell of their type <.FailedCount.tells_of_type>`."""
    executor: Executor | None = None
    """Who starts its attempts."""
    peaks: tuple[int, ...] = ()
    """The peak memory in bytes of the newest successes of its type, newest first. Only after `OutOfMemory`, of
    groups of one type."""
    batch: Batch | None = None
    """The batch because of whose failed jobs it was not started, if that is why."""


def failure_facts(
    connection: Connection,
    which: JobFilter,
    failed: Iterable[FailedCount],
    waiting: Iterable[WaitingCount] = (),
    most: int = FACTS,
) -> Mapping[int, FailureFacts]:
    """Read the newest job of each group that failed for good, and the first of those that wait for another attempt.

    :param which: the filter of the groups. Of some organizations, nothing is read of other jobs of their types, which
        may be of others.
    :param most: of how many groups that failed for good a job is read. Of each, several queries compare it with others.
    """
    of_all = which.organizations is None
    newest = {each.newest_id: each for each in largest_first(failed)[:most]}
    again = _first_tried_again(waiting)
    found: dict[int, FailureFacts] = {}
    if not newest and not again:
        return found
    for job_id, job_type, cause, runner, message, error_type in connection.execute(_statement({*newest, *again})):
        group = newest.get(job_id)
        for_good = group is not None and group.cause == cause
        compared = group if for_good and of_all else None
        found[job_id] = FailureFacts(
            message or "",
            error_type or "",
            _last_success(connection, job_type) if compared and compared.tells_of_type else None,
            executor_of(runner),
            _peaks(connection, job_type) if compared and compared.of_one_type and cause == Cause.OUT_OF_MEMORY else (),
            failed_batch_before(connection, job_id) if for_good and cause == Cause.DEPENDENCY_FAILED else None,
        )
    return found


def _first_tried_again(waiting: Iterable[WaitingCount]) -> list[int]:
    """Return the first job of each of the largest groups that have failed and are tried again."""
    numbers: Counter[tuple[object, ...]] = Counter()
    first: dict[tuple[object, ...], int] = {}
    for each in waiting:
        kind = each.kind
        if kind.later and kind.cause and not kind.suspended:
            group = (kind.blocked, kind.executor is Executor.OTHERS, kind.cause, kind.fingerprint)
            numbers[group] += each.count
            first[group] = min(each.first_id, first.get(group, each.first_id))
    return [first[group] for group, _ in numbers.most_common(FACTS)]


def _statement(ids: Collection[int]) -> Select[Any]:
    """Select the jobs whose last attempt has failed. One may have been retried since, and run."""
    columns = job_request.c
    newest = and_(
        job_attempt.c.job_id == columns.id, job_attempt.c.run == columns.run, job_attempt.c.number == columns.attempt
    )
    message = func.substr(columns.result_message, 1, _MESSAGE_LIMIT)
    return (
        select(columns.id, columns.job_type, columns.cause, columns.runner, message, job_attempt.c.error_type)
        .select_from(job_request.outerjoin(job_attempt, newest))
        .where(columns.id.in_(sorted(ids)), columns.state.in_([constant(JobState.FAILED), constant(JobState.WAITING)]))
    )


def _peaks(connection: Connection, job_type: str) -> tuple[int, ...]:
    usages = usage_of(connection, job_type).usages
    return tuple(usage.peak_memory_bytes for usage in usages if usage.peak_memory_bytes is not None)[:_PEAKS]


def _last_success(connection: Connection, job_type: str) -> datetime | None:
    newest = select(job_request.c.finished_at).where(*SUCCEEDED, job_request.c.job_type == job_type)
    found: datetime | None = connection.scalar(newest.order_by(desc(job_request.c.id)).limit(1))
    return found
