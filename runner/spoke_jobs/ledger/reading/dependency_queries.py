"""Queries on the jobs that a job depends on, for the command line. Each reads a bounded number of rows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.dependencies import batch_rows
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.rows import read_state
from spoke_jobs.ledger.tables import job_dependency, job_request
from spoke_jobs.model import JobRequest, JobState

LINKS = 200
"""How many dependencies are read at most."""


@dataclass(frozen=True, slots=True)
class Link:
    """A job that another one depends on."""

    job_id: int
    """The one that depends on it."""
    needs_id: int
    job_type: str
    state: JobState
    percent: int
    cause: str = ""
    runs_after_failure: bool = False
    """Whether the dependent also runs after its failure."""


@dataclass(frozen=True, slots=True)
class Dependent:
    """A job that depends on another one."""

    job_id: int
    job_type: str
    state: JobState
    percent: int
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Blocking:
    """The unfinished jobs that a blocked job waits for."""

    first: tuple[Link, ...] = ()
    """Some of them: those that run, then the oldest."""
    counts: tuple[tuple[JobState, int], ...] = ()
    """How many there are, by state."""
    batch: Batch | None = None
    """The unfinished batch that it follows."""


NOTHING = Blocking()
_COLUMNS = (
    job_dependency.c.job_id,
    job_dependency.c.needs_id,
    job_request.c.job_type,
    job_request.c.state,
    job_request.c.status,
    job_request.c.cause,
    job_dependency.c.runs_after_failure,
)
_LINKS = select(*_COLUMNS).join(job_request, job_request.c.id == job_dependency.c.needs_id)


def links(connection: Connection, job_id: int, limit: int = LINKS) -> tuple[Link, ...]:
    """Read what a job depends on, then what these jobs depend on, and so on: level by level, up to ``limit``."""
    found: list[Link] = []
    level, seen = {job_id}, {job_id}
    while level and len(found) < limit:
        statement = _LINKS.where(job_dependency.c.job_id.in_(sorted(level)))
        rows = connection.execute(
            statement.order_by(job_dependency.c.job_id, job_dependency.c.needs_id).limit(limit - len(found))
        )
        links = [_link(row) for row in rows]
        found += links
        level = {link.needs_id for link in links} - seen
        seen |= level
    return tuple(found)


def dependents(connection: Connection, job_id: int, limit: int = LINKS) -> tuple[Dependent, ...]:
    """Read the jobs that depend on a job directly, up to ``limit``: any of them if there are more."""
    statement = (
        select(job_request.c.id, job_request.c.job_type, job_request.c.state, job_request.c.status, job_request.c.cause)
        .join(job_dependency, job_dependency.c.job_id == job_request.c.id)
        .where(job_dependency.c.needs_id == job_id)
        .limit(limit)
    )
    found = (
        Dependent(dependent_id, job_type, read_state(state), max(status, 0), cause)
        for dependent_id, job_type, state, status, cause in connection.execute(statement)
    )
    return tuple(sorted(found, key=lambda dependent: dependent.job_id))


def blocking(connection: Connection, job_id: int, limit: int) -> Blocking:
    """Read what a blocked job waits for."""
    is_open = (job_dependency.c.job_id == job_id, job_dependency.c.open)
    first = _LINKS.where(*is_open).order_by(job_request.c.state != JobState.RUNNING, job_request.c.id).limit(limit)
    counts = (
        select(job_request.c.state, func.count())
        .join(job_dependency, job_dependency.c.needs_id == job_request.c.id)
        .where(*is_open)
        .group_by(job_request.c.state)
    )
    batch = batch_rows.before(connection, job_id)
    return Blocking(
        tuple(_link(row) for row in connection.execute(first)),
        tuple(sorted((read_state(state), count) for state, count in connection.execute(counts))),
        batch if batch is not None and batch.finished_at is None else None,
    )


def failed_batch(connection: Connection, job: JobRequest) -> Batch | None:
    """Find the batch because of whose failed jobs a job was not started; None if there is no such batch."""
    return failed_batch_before(connection, job.id) if job.cause == Cause.DEPENDENCY_FAILED else None


def failed_batch_before(connection: Connection, job_id: int) -> Batch | None:
    """Find the same of a job that ended with `DependencyFailed`."""
    batch = batch_rows.before(connection, job_id)
    return batch if batch is not None and batch.failed and batch.on_failed != "run" else None


def _link(row: tuple[int, int, str, str, int, str, bool]) -> Link:
    job_id, needs_id, job_type, state, status, cause, lenient = row
    return Link(job_id, needs_id, job_type, read_state(state), max(status, 0), cause, lenient)
