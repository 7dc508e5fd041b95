"""Who has suspended a job, and why. The row says only since when, and the event the rest."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, desc, select

from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.tables import job_event
from spoke_jobs.model import JobRequest


class Suspension(NamedTuple):
    """Who has suspended a job, and why."""

    by: str
    """Empty if unknown."""
    reason: str
    """Empty if none was given."""


UNKNOWN_SUSPENSION = Suspension("", "")


def suspension(connection: Connection, job: JobRequest) -> Suspension:
    """Return who has suspended a job, and why, where an event says so. Events are kept for a year."""
    if job.suspended_at is None:
        return UNKNOWN_SUSPENSION
    newest = (
        select(job_event.c.actor, job_event.c.detail)
        .where(job_event.c.job_id == job.id, job_event.c.action == Action.SUSPEND_JOB.value)
        .order_by(desc(job_event.c.id))
        .limit(1)
    )
    row = connection.execute(newest).one_or_none()
    return UNKNOWN_SUSPENSION if row is None else Suspension(*row)
