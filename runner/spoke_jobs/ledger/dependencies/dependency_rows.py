"""Statements on `job_dependency`: record it, and find and lock the jobs concerned. The caller commits.

Jobs are locked by ascending id, and a job's dependents after the job itself. The transaction that ends the last of two
dependencies waits for the other one's lock on the dependent, and then sees what that one wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, and_, delete, exists, insert, select, update

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.ledger.dependencies.dependency_rules import Edge, Needed, unknown
from spoke_jobs.ledger.rows import read_state
from spoke_jobs.ledger.sql.expressions import constant, unfinished
from spoke_jobs.ledger.tables import job_attempt, job_dependency, job_request
from spoke_jobs.model import UNFINISHED, AttemptState, JobState, NewJob

_AT_ONCE = 2000
"""How many ids one statement names."""
_LOCKS = 10
"""How often jobs that end are locked with their dependents, before those that are found last are locked later."""
_NEEDED = (*(job_request.c[name] for name in ("id", "uid", "job_type", "state", "cause", "batch_id", "batch_open")),)


def find_needed(connection: Connection, new: Sequence[NewJob]) -> dict[int | UUID, Needed]:
    """Lock the unfinished jobs that new ones depend on, until the transaction's end, and mark them as awaited.

    :returns: the jobs, by each reference.
    :raises InvalidJobData: if one does not exist.
    """
    references = {reference for job in new for reference in job.after}
    ids = {reference for reference in references if isinstance(reference, int) and abs(reference) <= LARGEST_ID}
    for part in _parts([reference for reference in references if isinstance(reference, UUID)]):
        ids.update(connection.scalars(select(job_request.c.id).where(job_request.c.uid.in_(part))))
    needed = lock_needed(connection, ids, ids)
    by_reference: dict[int | UUID, Needed] = {job.uid: job for job in needed.values()}
    by_reference.update({job.id: job for job in needed.values()})
    for reference in references:
        if reference not in by_reference:
            raise unknown(reference)
    return by_reference


def dependents(connection: Connection, ids: Collection[int]) -> set[int]:
    """Return the jobs that wait for one of these."""
    found: set[int] = set()
    for part in _parts(sorted(ids)):
        waits = job_dependency.c.needs_id.in_(part) & job_dependency.c.open
        found.update(connection.scalars(select(job_dependency.c.job_id).where(waits)))
    return found


def lock_needed(
    connection: Connection, ids: Collection[int], awaited: Collection[int], *, changes: bool = False
) -> dict[int, Needed]:
    """Lock jobs by ascending id, and return those that exist.

    :param awaited: those of them that others depend on. The unfinished ones are marked.
    :param changes: whether the caller changes the jobs.
    """
    found: dict[int, Needed] = {}
    for part in _parts(sorted(ids)):
        unmarked = select(job_request.c.id).where(
            job_request.c.id.in_(part), job_request.c.id.in_(awaited), unfinished(), ~job_request.c.awaited
        )
        locked = select(*_NEEDED, job_request.c.awaited).where(job_request.c.id.in_(part)).order_by(job_request.c.id)
        rows: Sequence[Any] = ()
        if not changes and connection.scalar(unmarked.limit(1)) is None:
            rows = _lock_marked(connection, locked, awaited)
        if not rows:
            rows = connection.execute(locked.with_for_update(key_share=True)).all()
        found |= {row.id: _needed(row) for row in rows}
        marked = [row.id for row in rows if _lacks_mark(row, awaited)]
        set_values(connection, marked, {"awaited": True})
    return found


def _lock_marked(connection: Connection, locked: Select[Any], awaited: Collection[int]) -> Sequence[Any]:
    """Lock jobs that are marked, in a mode that several transactions may hold: all may dispatch dependents at once.

    :returns: the jobs. Nothing if one has lost its mark since: none is locked then, because each of two transactions
        that hold such a lock would wait for the other one's end before it writes the mark.
    """
    savepoint = connection.begin_nested()  # a rollback to it releases the locks
    rows = connection.execute(locked.with_for_update(read=True)).all()
    if any(_lacks_mark(row, awaited) for row in rows):
        savepoint.rollback()
        return ()
    savepoint.commit()
    return rows


def _lacks_mark(row: Any, awaited: Collection[int]) -> bool:
    return row.id in awaited and not row.awaited and read_state(row.state) in UNFINISHED


def read_needed(connection: Connection, job_id: int) -> Needed:
    """Read a job that others depend on."""
    return _needed(connection.execute(select(*_NEEDED).where(job_request.c.id == job_id)).one())


def read_many(connection: Connection, ids: Collection[int]) -> list[Needed]:
    """Read several jobs."""
    return [
        _needed(row)
        for part in _parts(sorted(ids))
        for row in connection.execute(select(*_NEEDED).where(job_request.c.id.in_(part)))
    ]


def record(connection: Connection, edges: Iterable[tuple[Edge, bool]]) -> None:
    """Write dependencies, each with whether it is open."""
    rows = [edge._asdict() | {"open": is_open} for edge, is_open in edges]
    if rows:
        connection.execute(insert(job_dependency), rows)


def open_edges_to(connection: Connection, needs: Collection[int], limit: int) -> list[Edge]:
    """Read open dependencies on some jobs, by the dependent's id."""
    found: list[Edge] = []
    for part in _parts(sorted(needs)):
        statement = _edges().where(job_dependency.c.needs_id.in_(part), job_dependency.c.open)
        found += _read_edges(connection, statement.order_by(job_dependency.c.job_id).limit(limit - len(found)))
        if len(found) == limit:
            break
    return found


def lock_blocked(connection: Connection, ids: Collection[int]) -> dict[int, int]:
    """Lock those jobs that are blocked, by ascending id. Return the number of jobs that each waits for."""
    found: dict[int, int] = {}
    for part in _parts(sorted(ids)):
        statement = select(job_request.c.id, job_request.c.open_dependencies).where(
            job_request.c.id.in_(part), job_request.c.state == constant(JobState.BLOCKED)
        )
        locked = statement.order_by(job_request.c.id).with_for_update(key_share=True)
        found |= {row.id: row.open_dependencies for row in connection.execute(locked)}
    return found


def lock_with_dependents(connection: Connection, tokens: Collection[UUID]) -> None:
    """Lock the claims' jobs and what depends on them together, by ascending id, before several of them end.

    Without it, a transaction that ends jobs 1 and 3 would hold 3 while it waits for 2, which depends on 1. A dispatch
    that depends on 2 and 3 waits the other way round. A retry may make further jobs depend on these before the lock.
    Then none stays locked, and this begins again. After the lock none can.
    """
    held = and_(job_attempt.c.token.in_(tokens), job_attempt.c.state == AttemptState.RUNNING)
    # the attempts before their jobs: the order of all locks
    attempts = select(job_attempt.c.job_id).where(held).order_by(job_attempt.c.id).with_for_update()
    ended = set(connection.scalars(attempts))
    together = ended | dependents(connection, ended)
    for left in reversed(range(_LOCKS)):
        savepoint = connection.begin_nested()  # a rollback to it releases the locks
        for part in _parts(sorted(together)):
            jobs = select(job_request.c.id).where(job_request.c.id.in_(part)).order_by(job_request.c.id)
            connection.execute(jobs.with_for_update(key_share=True))
        before, together = together, together | dependents(connection, ended)
        if together == before or not left:
            savepoint.commit()
            return
        savepoint.rollback()


def close_edges(connection: Connection, ids: Collection[int], needs: Collection[int] | None = None) -> None:
    """Close open dependencies of some jobs: those on ``needs``, or all."""
    for part in _parts(sorted(ids)):
        where = [job_dependency.c.job_id.in_(part), job_dependency.c.open]
        if needs is not None:
            where.append(job_dependency.c.needs_id.in_(sorted(needs)))
        connection.execute(update(job_dependency).where(*where).values(open=False))


def close_needless_edges(connection: Connection, needs_id: int, ids: Collection[int]) -> None:
    """Close the open dependencies of some jobs on an ended one, except those of blocked jobs: nothing waits for them.

    Only other code writes such rows. The caller has locked the job ``needs_id``, so no retry can block them meanwhile.
    """
    blocked = exists().where(job_request.c.id == job_dependency.c.job_id, job_request.c.state == JobState.BLOCKED)
    for part in _parts(sorted(ids)):
        of_jobs = (job_dependency.c.needs_id == needs_id, job_dependency.c.job_id.in_(part), job_dependency.c.open)
        connection.execute(update(job_dependency).where(*of_jobs, ~blocked).values(open=False))


def set_values(connection: Connection, ids: Collection[int], changes: Mapping[str, Any]) -> None:
    """Write the same changes to several jobs."""
    for part in _parts(sorted(ids)):
        connection.execute(update(job_request).where(job_request.c.id.in_(part)).values(changes))


def no_longer_awaited(connection: Connection, ids: Collection[int]) -> set[int]:
    """Remove the mark of locked jobs that no job waits for. Return them. The ends of all are counted in batches."""
    found: set[int] = set()
    waits = exists().where(job_dependency.c.needs_id == job_request.c.id, job_dependency.c.open)
    for part in _parts(sorted(ids)):
        free = update(job_request).where(job_request.c.id.in_(part), ~waits).values(awaited=False)
        found.update(connection.scalars(free.returning(job_request.c.id)))
    return found


def failed_because_of(connection: Connection, job_id: int) -> set[int]:
    """Find the jobs that failed because a job failed, directly or not."""
    found: set[int] = set()
    last = {job_id}
    while last:
        following: set[int] = set()
        for part in _parts(sorted(last)):
            statement = (
                select(job_dependency.c.job_id)
                .join(job_request, job_request.c.id == job_dependency.c.job_id)
                .where(
                    job_dependency.c.needs_id.in_(part),
                    ~job_dependency.c.runs_after_failure,
                    job_request.c.state == constant(JobState.FAILED),
                    job_request.c.cause == Cause.DEPENDENCY_FAILED.value,
                )
            )
            following.update(connection.scalars(statement))
        last = following - found
        found |= last
    return found


def edges_of(connection: Connection, ids: Collection[int]) -> list[Edge]:
    """Read all dependencies of some jobs."""
    return [
        edge
        for part in _parts(sorted(ids))
        for edge in _read_edges(connection, _edges().where(job_dependency.c.job_id.in_(part)))
    ]


def reopen(connection: Connection, ids: Collection[int], needs: Collection[int]) -> None:
    """Open the dependencies of some jobs on ``needs``."""
    for part in _parts(sorted(ids)):
        for others in _parts(sorted(needs)):
            which = (job_dependency.c.job_id.in_(part), job_dependency.c.needs_id.in_(others))
            connection.execute(update(job_dependency).where(*which).values(open=True))


def with_free_keys(connection: Connection, ids: Collection[int], job_id: int) -> set[int]:
    """Leave out jobs whose unique key an unfinished job or ``job_id`` has; of several with one key, keep the newest."""
    if not ids:
        return set()
    kept: dict[str | int | None, int] = {}
    own_key = connection.scalar(select(job_request.c.unique_key).where(job_request.c.id == job_id))
    other = job_request.alias()
    taken = exists().where(
        and_(other.c.unique_key == job_request.c.unique_key, other.c.state.in_([constant(one) for one in UNFINISHED]))
    )
    for part in _parts(sorted(ids)):
        statement = select(job_request.c.id, job_request.c.unique_key)
        free = statement.where(job_request.c.id.in_(part), ~taken).order_by(job_request.c.id)
        kept |= {row.id if row.unique_key is None else row.unique_key: row.id for row in connection.execute(free)}
    return {one for key, one in kept.items() if own_key is None or key != own_key}


def needed_by_unfinished() -> Any:
    """Whether an unfinished job depends on the row."""
    dependent = job_request.alias()
    found = (
        select(job_dependency.c.job_id)
        .join(dependent, dependent.c.id == job_dependency.c.job_id)
        .where(
            job_dependency.c.needs_id == job_request.c.id,
            dependent.c.state.in_([constant(state) for state in UNFINISHED]),
        )
        .correlate(job_request)
    )
    # With an offset, PostgreSQL looks each row up by the index. Without it, it may read the whole history to join.
    return found.offset(0).exists()


def forget(connection: Connection, ids: Collection[int]) -> None:
    """Delete the dependencies on jobs that are about to be deleted."""
    for part in _parts(sorted(ids)):
        connection.execute(delete(job_dependency).where(job_dependency.c.needs_id.in_(part)))


def _edges() -> Select[Any]:
    return select(job_dependency.c.job_id, job_dependency.c.needs_id, job_dependency.c.runs_after_failure)


def _read_edges(connection: Connection, statement: Select[Any]) -> list[Edge]:
    return [Edge(*row) for row in connection.execute(statement)]


def _needed(row: Any) -> Needed:
    in_batch = row.batch_id if row.batch_open else None
    return Needed(row.id, row.uid, row.job_type, read_state(row.state), row.cause, in_batch)


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
