"""Correct rows that make a claim of many jobs fail.

Other code may have written rows that no claim can be for: a waiting job whose attempt runs, or whose next attempt's
number is taken or too large. Each is corrected, or else ended, so that no later claim fails because of it.
"""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Connection, Row, case, exists, func, or_, select, update

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.claims.eligibility import OfRunner, Waiting, in_sql
from spoke_jobs.ledger.lifecycle.finish import give_up
from spoke_jobs.ledger.sql.each_alone import change_each
from spoke_jobs.ledger.sql.expressions import LARGEST_COUNT
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import AttemptState, Failure, JobState

_LIMIT = 100
_TEXT = "No attempt of the job can be claimed, because other code has written counts that do not fit into its rows."

logger = logging.getLogger(__name__)


def repair(connection: Connection, runner: str) -> int:
    """Correct waiting jobs of the runner that cannot be claimed; return how many."""
    mine = job_attempt.c.job_id == job_request.c.id
    of_run = (mine, job_attempt.c.run == job_request.c.run)
    running = exists().where(mine, job_attempt.c.state == AttemptState.RUNNING)
    taken = exists().where(*of_run, job_attempt.c.number > job_request.c.attempt)
    last = select(func.max(job_attempt.c.number)).where(*of_run).scalar_subquery()
    number = func.coalesce(case((last > job_request.c.attempt, last)), job_request.c.attempt)
    broken = (
        select(job_request.c.id, running.label("running"), number.label("number"))
        .where(
            *in_sql(Waiting(), OfRunner(runner)),
            or_(running, taken, job_request.c.attempt >= LARGEST_COUNT),
        )
        .order_by(job_request.c.rank, job_request.c.id)
        .with_for_update(skip_locked=True)
    )

    def correct(row: Row[Any]) -> int:
        job_id: int = row.id
        change = update(job_request).where(job_request.c.id == job_id)
        if row.running:
            logger.error("job %d: waits, and its attempt runs: other code has changed its state; corrected", job_id)
            connection.execute(change.values(state=JobState.RUNNING))
        elif isinstance(row.number, int) and row.number < LARGEST_COUNT:
            logger.error("job %d: the number of its next attempt is taken; corrected", job_id)
            connection.execute(change.values(attempt=row.number))
        else:
            logger.error("job %d: its attempts are too many to count; it ends", job_id)
            give_up(connection, job_id, Failure(Cause.UNDIAGNOSABLE, _TEXT))
        return job_id

    return len(change_each(connection, broken, job_request.c.id, _LIMIT, correct))
