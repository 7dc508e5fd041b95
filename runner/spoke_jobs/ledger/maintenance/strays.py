"""End what no process owns: attempts of jobs that do not run, leases that are too long, and locks that nobody holds.

Each transaction of this library changes an attempt together with its job and its queue's lock, so committed rows show
neither. Other code may write them. Such an attempt counts under limits, and such a lock keeps its queue's jobs from
running. The caller commits.
"""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Connection, Row, delete, or_, select, update

from spoke_jobs.contract.executors import REFERENCE
from spoke_jobs.ledger.columns.clock import DATABASE_CLOCK, clock_after
from spoke_jobs.ledger.lifecycle import transitions
from spoke_jobs.ledger.sql.each_alone import change_each
from spoke_jobs.ledger.sql.expressions import clock_once, constant
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.model import AttemptState, JobState
from spoke_jobs.settings import LONGEST_LEASE_SECONDS

_LIMIT = 100
_RUNS = job_attempt.c.state == constant(AttemptState.RUNNING)

logger = logging.getLogger(__name__)


def end_strays(connection: Connection) -> int:
    """End such attempts and leases, and delete such locks; return how many."""
    return _end_attempts(connection) + _end_leases(connection) + _delete_locks(connection)


def _end_attempts(connection: Connection) -> int:
    """End running attempts of jobs that do not run, or that only other code may run. The jobs stay as they are."""
    strays = (
        select(job_attempt.c.id, job_attempt.c.job_id, job_request.c.state)
        .join(job_request, job_request.c.id == job_attempt.c.job_id)
        .where(_RUNS, or_(job_request.c.state != constant(JobState.RUNNING), job_request.c.runner == REFERENCE))
        .order_by(job_attempt.c.id)
        .with_for_update(skip_locked=True, key_share=True, of=(job_attempt, job_request))
    )
    ends = update(job_attempt).values(transitions.attempt_failed(DATABASE_CLOCK, transitions.WORKER_LOST))

    def end(row: Row[Any]) -> bool:
        connection.execute(ends.where(job_attempt.c.id == row.id))
        logger.error("job %d: other code has written that its attempt runs; the attempt has ended", row.job_id)
        return True

    return len(change_each(connection, strays, job_attempt.c.id, _LIMIT, end))


def _end_leases(connection: Connection) -> int:
    """End the leases that are longer than any process's: the reapers of all runners then end their attempts."""
    strays = (
        select(job_attempt.c.id, job_attempt.c.job_id)
        .where(_RUNS, job_attempt.c.lease_expires_at > clock_once(LONGEST_LEASE_SECONDS))
        .order_by(job_attempt.c.id)
        .with_for_update(skip_locked=True, key_share=True)
    )
    ends = update(job_attempt).values(lease_expires_at=clock_after(-2 * LONGEST_LEASE_SECONDS))

    def end(row: Row[Any]) -> bool:
        connection.execute(ends.where(job_attempt.c.id == row.id))
        logger.error("job %d: other code has written a lease that no process may have; it has ended", row.job_id)
        return True

    return len(change_each(connection, strays, job_attempt.c.id, _LIMIT, end))


def _delete_locks(connection: Connection) -> int:
    """Delete the locks of queues that no running attempt holds.

    A statement sees a lock and its attempt as of one moment. A claim inserts both in one transaction, and an end
    deletes the lock in the transaction that ends the attempt, so it never takes an owner's lock.
    """
    held = (
        select(job_attempt.c.id)
        .join(job_request, job_request.c.id == job_attempt.c.job_id)
        .where(
            _RUNS,
            job_attempt.c.token == queue_lock.c.token,
            job_attempt.c.job_id == queue_lock.c.job_id,
            job_request.c.queue_name == queue_lock.c.queue_name,
        )
        .correlate(queue_lock)
    )
    strays = (
        select(queue_lock.c.queue_name, queue_lock.c.job_id, queue_lock.c.token)
        .where(~held.exists())
        .order_by(queue_lock.c.queue_name)
        .with_for_update(skip_locked=True)
    )

    def free(row: Row[Any]) -> bool:
        of_row = (queue_lock.c.queue_name == row.queue_name, queue_lock.c.token == row.token)
        connection.execute(delete(queue_lock).where(*of_row))
        logger.error("other code has written the lock of a queue for job %d, no attempt of which holds it", row.job_id)
        return True

    return len(change_each(connection, strays, queue_lock.c.queue_name, _LIMIT, free))
