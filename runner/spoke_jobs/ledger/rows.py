"""Convert rows of the ledger's tables to the classes of ``model.py``, and back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import Attempt, AttemptState, JobOptions, JobRequest, JobState

REQUEST_COLUMNS = tuple(job_request.c)
ATTEMPT_COLUMNS = tuple(job_attempt.c[field.name] for field in fields(Attempt))


def to_request(row: RowMapping) -> JobRequest:
    """Read a row with :data:`REQUEST_COLUMNS`."""
    values: dict[str, Any] = dict(row)
    values |= {
        "state": JobState(values["state"]),
        "options": JobOptions.from_json(values["options"]),
        "priority": -values.pop("rank"),
    }
    return JobRequest(**values)


def read_job(connection: Connection, job_id: int) -> JobRequest | None:
    """Read the job with that id, or None."""
    row = connection.execute(select(*REQUEST_COLUMNS).where(job_request.c.id == job_id)).mappings().first()
    return to_request(row) if row is not None else None


def to_attempt(row: RowMapping) -> Attempt:
    """Read a row with :data:`ATTEMPT_COLUMNS`."""
    values: dict[str, Any] = dict(row)
    return Attempt(**values | {"state": AttemptState(values["state"])})


def to_row(given: dict[str, Any]) -> dict[str, Any]:
    """Convert the fields that a dispatch sets (:func:`spoke_jobs.ledger.transitions.dispatched`) to column values."""
    values = given | {"options": given["options"].to_json(), "rank": -given["priority"]}
    del values["priority"]
    return values
