"""Rows and SpokeJobs to decide on."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from tests.unit.explain.situations import NOW as NOW
from tests.unit.explain.situations import a_job

from spoke_jobs.contract.custom_resources.spokejob import Outcome
from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.sync.sync_model import AttemptView, Row, SpokeJobView

LONG_AGO = NOW - timedelta(hours=1)


def job(**changes: Any) -> JobRequest:
    """A waiting job that nobody has launched."""
    values: dict[str, Any] = {
        "id": 7,
        "uid": uuid.UUID("5e1f0a52-0000-4000-8000-000000000007"),
        "job_type": "import_contacts",
        "payload": "",
        "created_at": LONG_AGO,
        "updated_at": LONG_AGO,
        "runner": "kubernetes",
    }
    return a_job(**values | changes)


def row(live: int | None = None, **changes: Any) -> Row:
    """The same as a row."""
    return Row(job(**changes), live)


def running(number: int = 1, **changes: Any) -> Row:
    """A launched job whose attempt holds a claim."""
    return row(number, **{"state": JobState.RUNNING, "attempt": number, "submitted_at": LONG_AGO} | changes)


def seen(of: Row, **changes: Any) -> SpokeJobView:
    """The row's SpokeJob, just created."""
    values: dict[str, Any] = {
        "name": of.name,
        "object_uid": "object-1",
        "resource_version": "10",
        "job_uid": of.job.uid,
        "run": of.job.run,
    }
    return SpokeJobView(**values | changes)


def under_way(of: Row, number: int = 1, **changes: Any) -> SpokeJobView:
    """The row's SpokeJob with an attempt under way."""
    attempts = (AttemptView(number, False, "", ""),)
    return seen(of, **{"outcome": Outcome.RUNNING, "attempt": number, "attempts": attempts} | changes)
