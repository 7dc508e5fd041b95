"""Change by hand when a waiting job starts. Each change writes its event in its transaction."""

from __future__ import annotations

from datetime import UTC

from sqlalchemy import Connection, select, update

from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.columns.clock import DATABASE_CLOCK, FixedClock, read_clock
from spoke_jobs.ledger.lifecycle import start_rules
from spoke_jobs.ledger.lifecycle.start_rules import checked_reason
from spoke_jobs.ledger.lifecycle.transitions import Changes
from spoke_jobs.ledger.notify import request_notification
from spoke_jobs.ledger.rows import MANY_COLUMNS, to_request
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobRequest


def run_now(connection: Connection, job_id: int, by: str = "") -> JobRequest | None:
    """Make a waiting job due now, by the database's clock. Return None if there is no such job.

    :param by: who does so, for the event.
    :raises ChangeRefused: if it does not wait for its time.
    """
    job = _locked(connection, job_id)
    if job is None:
        return None
    start_rules.refuse(start_rules.why_not_now(job, read_clock(connection)))
    detail = f"due now, not at {job.run_after.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if job.run_after else ""
    return _change(connection, job, start_rules.due_now(DATABASE_CLOCK, job), Action.RUN_NOW, by, detail)


def set_priority(connection: Connection, job_id: int, priority: int, by: str = "") -> JobRequest | None:
    """Change the priority of a waiting or blocked job. Return None if there is no such job.

    A job that has the priority already stays as it is, without an event. Its SpokeJob gets the priority by sync.

    :param by: who does so, for the event.
    :raises ChangeRefused: if it runs or has ended.
    :raises InvalidJobData: if no job can have the priority.
    """
    job = _locked(connection, job_id)
    if job is None:
        return None
    start_rules.refuse(start_rules.why_no_priority(job, priority))
    if job.priority == priority:
        return job
    detail = f"{priority}, not {job.priority}"
    # The time of the change stays: since then a job of the lane `worker` waits for one.
    return _change(connection, job, {"rank": -priority}, Action.SET_PRIORITY, by, detail)


def suspend(connection: Connection, job_id: int, reason: str = "", by: str = "") -> JobRequest | None:
    """Let no attempt of a job start until somebody resumes it. Return None if there is no such job.

    A running attempt goes on. A job that is suspended already stays as it is, without an event.

    :param reason: for the event, which says why the job waits.
    :param by: who does so, likewise.
    :raises ChangeRefused: if it has ended.
    :raises InvalidJobData: if the reason can't be stored.
    """
    reason = checked_reason(reason)
    job = _locked(connection, job_id)
    if job is None:
        return None
    start_rules.refuse(start_rules.why_not_suspended(job))
    if job.suspended_at is not None:
        return job
    return _change(connection, job, start_rules.suspended(DATABASE_CLOCK), Action.SUSPEND_JOB, by, reason)


def resume(connection: Connection, job_id: int, by: str = "") -> JobRequest | None:
    """Let attempts of a suspended job start again. Return None if there is no such job.

    :param by: who does so, for the event.
    :raises ChangeRefused: if it is not suspended.
    """
    job = _locked(connection, job_id)
    if job is None:
        return None
    start_rules.refuse(start_rules.why_not_resumed(job))
    clock = FixedClock(read_clock(connection))
    return _change(connection, job, start_rules.resumed(clock, job), Action.RESUME_JOB, by, "")


def _locked(connection: Connection, job_id: int) -> JobRequest | None:
    # No attempt is locked before: a claim, which locks the job's row first, then finds it changed or has claimed it.
    row = connection.execute(
        select(*MANY_COLUMNS).where(job_request.c.id == job_id).with_for_update(key_share=True)
    ).mappings()
    found = row.one_or_none()
    return None if found is None else to_request(found)


def _change(
    connection: Connection, job: JobRequest, changes: Changes, action: Action, by: str, detail: str
) -> JobRequest:
    """Change a job's row, record that, and notify workers and sync once the transaction is committed."""
    changed = update(job_request).where(job_request.c.id == job.id).values(changes).returning(*MANY_COLUMNS)
    after = to_request(connection.execute(changed).mappings().one())
    audit_events.record(connection, action, by, job_id=job.id, job_type=job.job_type, detail=detail)
    request_notification(connection)
    return after
