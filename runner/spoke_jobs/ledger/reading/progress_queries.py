"""What is read of jobs for those who follow their progress. Only a few columns: never a payload or a result."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Engine, select

from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobState


@dataclass(frozen=True, slots=True)
class ReportedProgress:
    """How far a job is, by its row."""

    run: int
    state: JobState
    status: int
    """As in :class:`spoke_jobs.model.JobRequest`."""
    message: str
    """The last progress message, or why the last attempt failed."""
    cause: str


def reported_progress(engine: Engine, ids: Collection[int]) -> dict[int, ReportedProgress]:
    """Read how far the jobs are, by id, in one statement. Jobs that have no row are left out."""
    row = job_request.c
    statement = select(row.id, row.run, row.state, row.status, row.result_message, row.cause).where(row.id.in_(ids))
    with engine.connect().execution_options(**{READ_ONLY: True}) as connection:
        return {
            job_id: ReportedProgress(run, JobState(state), status, message, cause)
            for job_id, run, state, status, message, cause in connection.execute(statement)
        }
