"""Who cancelled or suspended a job, from its events. Its row and its attempts record only that it was, and when."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, desc, select

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.lifecycle import transitions
from spoke_jobs.ledger.tables import job_event
from spoke_jobs.model import JobRequest


def cancellers(connection: Connection, job_ids: Collection[int]) -> dict[int, str]:
    """Return who has cancelled each of the jobs since its last retry, where an event says so."""
    statement = (
        select(job_event.c.job_id, job_event.c.action, job_event.c.actor)
        .where(job_event.c.job_id.in_(job_ids), job_event.c.action.in_([Action.CANCEL.value, Action.RETRY.value]))
        .order_by(job_event.c.id)
    )
    found = {
        job_id: actor if action == Action.CANCEL else "" for job_id, action, actor in connection.execute(statement)
    }
    return {job_id: actor for job_id, actor in found.items() if actor}


def canceller(connection: Connection, job: JobRequest) -> str:
    """Return who has cancelled the job, or asked it to stop; empty if nobody has, or nobody knows."""
    if job.cause != Cause.CANCELLED and job.cancel_requested_at is None:
        return ""
    return cancellers(connection, [job.id]).get(job.id, "")


def with_cancellers(connection: Connection, jobs: Sequence[JobRequest]) -> list[JobRequest]:
    """Return the jobs. The messages of those that were cancelled while they ran name who did it, if that is known."""
    unnamed = {job.id for job in jobs if _unnamed(job)}
    found = cancellers(connection, unnamed) if unnamed else {}
    return [
        job.evolve(result_message=transitions.cancelled(found[job.id]).message)
        if job.id in unnamed and job.id in found
        else job
        for job in jobs
    ]


def _unnamed(job: JobRequest) -> bool:
    return job.state.final and job.cause == Cause.CANCELLED and job.result_message == transitions.CANCELLED.message


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
