"""Rows of the ledger's tables as plain values."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping

from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import Attempt, AttemptState, JobOptions, JobRequest, JobState

REQUEST_COLUMNS = tuple(job_request.c)
ATTEMPT_COLUMNS = tuple(column for column in job_attempt.c if column.name not in {"id", "token", "for_good"})


def to_request(row: RowMapping) -> JobRequest:
    """A row with :data:`REQUEST_COLUMNS`."""
    values: dict[str, Any] = dict(row)
    values |= {
        "state": JobState(values["state"]),
        "options": JobOptions.from_json(values["options"]),
        "priority": -values.pop("rank"),
    }
    return JobRequest(**values)


def to_attempt(row: RowMapping) -> Attempt:
    """A row with :data:`ATTEMPT_COLUMNS`."""
    values: dict[str, Any] = dict(row)
    return Attempt(**values | {"state": AttemptState(values["state"])})
