"""Batches: count the ends of their jobs, and start the job that follows. The caller commits.

A batch's row is locked after those of its jobs. Its counters are changed by each end, so reading them never counts
rows, and of two ends at the same moment the second one sees what the first one wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    case,
    delete,
    desc,
    insert,
    or_,
    select,
    update,
)

from spoke_jobs.errors import DependencyNotMet, InvalidJobData
from spoke_jobs.ledger.columns.clock import clock_after, clock_now
from spoke_jobs.ledger.job_batch import ANY_BATCH, Batch, BatchFilter
from spoke_jobs.ledger.sql.expressions import increased, unfinished
from spoke_jobs.ledger.sql.filters import matching
from spoke_jobs.ledger.tables import job_batch, job_request
from spoke_jobs.model import JobRequest, JobState, NewJob

RETENTION_SECONDS = 7 * 86_400.0
"""How long the row of a finished batch stays."""
_COLUMNS = tuple(job_batch.c)


class End(NamedTuple):
    """The end of a job that is in a batch."""

    batch_id: int
    failed: bool


def create(connection: Connection, name: str, on_failed: str) -> Batch:
    """Write an empty batch, which is open."""
    values = {"name": name, "on_failed": on_failed, "created_at": clock_now()}
    return _one(connection, insert(job_batch).values(values).returning(*_COLUMNS))


def follow(connection: Connection, batch: Batch, then: JobRequest) -> Batch:
    """Record the job that follows a batch."""
    return _one(connection, _update(batch.id).values(then_id=then.id).returning(*_COLUMNS))


def add(connection: Connection, jobs: Iterable[NewJob]) -> None:
    """Count new jobs in their batches.

    :raises InvalidJobData: if a batch has finished, or does not exist.
    """
    for batch_id, number in sorted(Counter(job.batch_id for job in jobs if job.batch_id is not None).items()):
        more = (
            _update(batch_id)
            .where(job_batch.c.finished_at.is_(None))
            .values(total=increased(job_batch.c.total, number))
        )
        if connection.scalar(more.returning(job_batch.c.id)) is None:
            raise refusal(batch_id, find(connection, batch_id))


def following(connection: Connection, job_ids: Collection[int]) -> list[int]:
    """Return the jobs that follow the unfinished batches of these jobs."""
    mine = job_request.c.id.in_(sorted(job_ids))
    of_mine = select(job_request.c.batch_id).where(mine, job_request.c.batch_id.is_not(None))
    statement = select(job_batch.c.then_id).where(
        job_batch.c.id.in_(of_mine), job_batch.c.then_id.is_not(None), job_batch.c.finished_at.is_(None)
    )
    return list(connection.scalars(statement))


def close(connection: Connection, batch_id: int) -> Batch | None:
    """Close a batch. Return it; None if there is no open one. The caller finishes it if it is over."""
    closed = _update(batch_id).where(job_batch.c.closed_at.is_(None)).values(closed_at=clock_now())
    row = connection.execute(closed.returning(*_COLUMNS)).mappings().one_or_none()
    return _batch(row) if row is not None else None


def count_ends(connection: Connection, ends: Iterable[End]) -> list[Batch]:
    """Count ends of jobs in their batches. Return the batches that this finishes.

    Other code may have written a job's batch, or deleted it: a batch that does not exist counts nothing.
    """
    counts: dict[int, Counter[bool]] = {}
    for end in ends:
        counts.setdefault(end.batch_id, Counter())[end.failed] += 1
    changed: list[Batch] = []
    for batch_id, count in sorted(counts.items()):
        ended = {
            "succeeded": increased(job_batch.c.succeeded, count[False]),
            "failed": increased(job_batch.c.failed, count[True]),
        }
        rows = connection.execute(_update(batch_id).values(ended).returning(*_COLUMNS)).mappings()
        changed += map(_batch, rows)
    return [batch for batch in changed if batch.over]


def finish(connection: Connection, batch: Batch) -> None:
    """Record that all jobs of a closed batch have ended."""
    connection.execute(_update(batch.id).values(finished_at=clock_now()))


def reopen(connection: Connection, batch_ids: Sequence[int]) -> list[Batch]:
    """Count failed jobs as unfinished again, after a retry by hand: each id stands for one job."""
    reopened = []
    for batch_id, number in sorted(Counter(batch_ids).items()):
        failed = case((job_batch.c.failed >= number, job_batch.c.failed - number), else_=0)
        statement = _update(batch_id).values(failed=failed, finished_at=None)
        reopened.append(_one(connection, statement.returning(*_COLUMNS)))
    return reopened


def before(connection: Connection, job_id: int) -> Batch | None:
    """Find the batch that a job follows."""
    row = connection.execute(select(*_COLUMNS).where(job_batch.c.then_id == job_id)).mappings().first()
    return _batch(row) if row is not None else None


def find(connection: Connection, batch_id: int) -> Batch | None:
    """Read a batch."""
    row = connection.execute(select(*_COLUMNS).where(job_batch.c.id == batch_id)).mappings().first()
    return _batch(row) if row is not None else None


def newest(connection: Connection, limit: int, which: BatchFilter = ANY_BATCH) -> list[Batch]:
    """Read the newest batches that pass the filter, newest first."""
    statement = select(*_COLUMNS).where(*_conditions(which)).order_by(desc(job_batch.c.id)).limit(limit)
    return [_batch(row) for row in connection.execute(statement).mappings()]


def after_the_newest(connection: Connection, number: int, before: int | None) -> int | None:
    """Return the id of the first batch that is not among so many of the newest ones; None if there is none.

    :param before: count only batches with lower ids.
    """
    ids = select(job_batch.c.id).order_by(desc(job_batch.c.id)).offset(number).limit(1)
    found: int | None = connection.scalar(ids if before is None else ids.where(job_batch.c.id < before))
    return found


def _conditions(which: BatchFilter) -> Iterator[ColumnElement[bool]]:
    if which.name is not None:
        yield matching(job_batch.c.name, which.name)
    if which.since is not None:
        yield job_batch.c.created_at >= which.since
    if which.until is not None:
        yield job_batch.c.created_at < which.until
    if which.id is not None:
        yield job_batch.c.id == which.id
    if which.then_id is not None:
        yield job_batch.c.then_id == which.then_id
    if which.before is not None:
        yield job_batch.c.id < which.before
    if which.after is not None:
        yield job_batch.c.id > which.after
    if which.organizations is not None:
        # With a limit, these are no joins, for which PostgreSQL might read all jobs: one look for each batch.
        job = select(job_request.c.id).where(job_request.c.batch_id == job_batch.c.id).limit(1)
        of_others = job_request.c.organization_id.not_in(sorted(which.organizations))
        yield job.where(or_(job_request.c.organization_id.is_(None), of_others)).scalar_subquery().is_(None)
        yield job.scalar_subquery().is_not(None)


def unfinished_jobs(connection: Connection, batch_id: int) -> list[tuple[int, str, JobState]]:
    """Read the id, type and state of the batch's jobs that have not ended, oldest first."""
    statement = select(job_request.c.id, job_request.c.job_type, job_request.c.state).where(
        job_request.c.batch_id == batch_id, unfinished()
    )
    return [(job_id, name, JobState(state)) for job_id, name, state in
            connection.execute(statement.order_by(job_request.c.id))]  # fmt: skip


def prune(connection: Connection) -> None:
    """Delete batches that finished long ago."""
    over = select(job_batch.c.id).where(job_batch.c.finished_at < clock_after(-RETENTION_SECONDS))
    connection.execute(delete(job_batch).where(job_batch.c.id.in_(over.with_for_update(skip_locked=True))))


def members(connection: Connection, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Return those of the jobs that are in a batch, each with its batch.

    A batch that was pruned, or that only a row of other code names, is left out: the job then starts without one.
    """
    statement = (
        select(job_request.c.id, job_batch.c.id)
        .join(job_batch, job_batch.c.id == job_request.c.batch_id)
        .where(job_request.c.id.in_(ids))
    )
    return [(job_id, batch_id) for job_id, batch_id in connection.execute(statement)]


def held(then: NewJob) -> NewJob:
    """Return the job that follows a batch: it waits for the batch.

    :raises InvalidJobData: if it has a unique key, with which an earlier job might take its place.
    """
    if then.unique_key is not None:
        raise InvalidJobData("the job that follows a batch takes no unique_key")
    return replace(then, open_dependencies=then.open_dependencies + 1)


def refusal(batch_id: int, batch: Batch | None) -> InvalidJobData:
    """The error of a dispatch into a batch that takes no job."""
    if batch is None:
        return InvalidJobData(f"batch_id: there is no batch {batch_id}: it was pruned, or is of another database")
    return InvalidJobData(f"batch {batch_id} ({batch.name}) has finished: open another one")


def not_met(job_id: int, batch: Batch) -> DependencyNotMet:
    """The error of a retry of the job that follows a batch, while jobs of it have failed."""
    failed = "1 job has" if batch.failed == 1 else f"{batch.failed:,} jobs have"
    these = "it" if batch.failed == 1 else "these"
    return DependencyNotMet(
        f"job {job_id} follows batch {batch.id} ({batch.name}), in which {failed} failed: retry {these}; job {job_id} "
        "then starts after the batch"
    )


def _update(batch_id: int) -> Any:
    return update(job_batch).where(job_batch.c.id == batch_id)


def _one(connection: Connection, statement: Any) -> Batch:
    return _batch(connection.execute(statement).mappings().one())


def _batch(row: RowMapping) -> Batch:
    return Batch(**row)
