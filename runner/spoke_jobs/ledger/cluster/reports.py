"""Statements on the reports: what the cluster said about failed attempts. The caller commits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, desc, select, update

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.columns.clock import clock_now
from spoke_jobs.ledger.lifecycle.transitions import MESSAGE_LIMIT
from spoke_jobs.ledger.sql.expressions import upsert
from spoke_jobs.ledger.tables import attempt_report, job_attempt, job_request
from spoke_jobs.model import AttemptReport, ContainerOutput, JobRequest
from spoke_jobs.shared.clean_text import storable

OUTPUT_LIMIT = 4000
"""The most characters of one container's output that are kept."""
CONTAINERS_LIMIT = 10
"""The most containers of one attempt whose output is kept."""


def record(connection: Connection, job: JobRequest, report: AttemptReport) -> bool:
    """Store a report. Return False if there is one of that attempt, or if the job was deleted.

    If the next attempt's claim came before the report, it recorded the attempt as ``WorkerLost``, because it found only
    a lapsed lease. The cluster knows the cause.
    """
    if (
        connection.scalar(select(job_request.c.id).where(job_request.c.id == job.id, job_request.c.uid == job.uid))
        is None
    ):
        return False
    statement = (
        upsert(connection, attempt_report)
        .values(
            job_id=job.id,
            run=report.run,
            number=report.number,
            created_at=clock_now(),
            cause=report.cause,
            message=storable(report.message, MESSAGE_LIMIT),
            pod=report.pod,
            outputs=[
                {"container": item.container, "text": storable(item.text[-OUTPUT_LIMIT:])}
                for item in report.outputs[:CONTAINERS_LIMIT]
            ],
        )
        .on_conflict_do_nothing()
        .returning(attempt_report.c.job_id)  # `rowcount` is unavailable for INSERT
    )
    stored = connection.scalar(statement) is not None
    if stored and report.cause:
        of_attempt = (
            job_attempt.c.job_id == job.id,
            job_attempt.c.run == report.run,
            job_attempt.c.number == report.number,
            job_attempt.c.cause == Cause.WORKER_LOST.value,
        )
        connection.execute(update(job_attempt).where(*of_attempt).values(cause=report.cause))
    return stored


def reports_of(connection: Connection, job_id: int, limit: int) -> tuple[AttemptReport, ...]:
    """Read the reports of a job's newest attempts, at most ``limit``, the oldest attempt first."""
    newest = (
        select(attempt_report)
        .where(attempt_report.c.job_id == job_id)
        .order_by(desc(attempt_report.c.run), desc(attempt_report.c.number))
        .limit(limit)
    )
    return tuple(_report(dict(row)) for row in reversed(connection.execute(newest).mappings().all()))


def _report(row: dict[str, Any]) -> AttemptReport:
    # JSON can have lone surrogates, and no document or page could.
    outputs = tuple(
        ContainerOutput(storable(str(item["container"])), storable(str(item["text"]))) for item in row["outputs"] or ()
    )
    return AttemptReport(row["run"], row["number"], row["cause"], row["message"], row["pod"], outputs)
