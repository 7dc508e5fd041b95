"""Watching a job that a worker runs, in order to kill it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from spoke_jobs import JobRequest, JobState
from spoke_jobs.ledger.sql_ledger import SqlLedger

PATIENCE_SECONDS = 120.0


def seconds_of(job: JobRequest) -> float:
    assert job.started_at is not None
    assert job.finished_at is not None
    return (job.finished_at - job.started_at).total_seconds()


def state_of(ledger: SqlLedger, job: JobRequest) -> JobState:
    row = ledger.get(job.id)
    assert row is not None
    return row.state


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
