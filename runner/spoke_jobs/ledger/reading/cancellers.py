"""Who cancelled a job that ran. The attempt records its end without knowing that, but the request left an event."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, select

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
