"""Watching a job that a worker runs, in order to kill it."""

from __future__ import annotations

from pathlib import Path

from spoke_jobs import JobRequest, JobState
from spoke_jobs.ledger.sql_ledger import SqlLedger


def seconds_of(job: JobRequest) -> float:
    assert job.started_at is not None
    assert job.finished_at is not None
    return (job.finished_at - job.started_at).total_seconds()


def state_of(ledger: SqlLedger, job: JobRequest) -> JobState:
    row = ledger.get(job.id)
    assert row is not None
    return row.state


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
