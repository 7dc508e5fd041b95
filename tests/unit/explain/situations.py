"""Jobs and what stands around them, for the pure parts of the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from spoke_jobs.ledger.reading.holders import Holder
from spoke_jobs.ledger.reading.situations import Situation
from spoke_jobs.ledger.reading.takers import Load, Takers, Trace
from spoke_jobs.model import Attempt, AttemptState, JobOptions, JobRequest, JobState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def before(**gap: float) -> datetime:
    return NOW - timedelta(**gap)


def after(**gap: float) -> datetime:
    return NOW + timedelta(**gap)


def a_job(**changes: Any) -> JobRequest:
    """A job that has been due for a minute."""
    values: dict[str, Any] = {
        "id": 12,
        "uid": UUID(int=7),
        "job_type": "report",
        "payload": '{"secret":"s3cr3t"}',
        "queue_name": "",
        "locks_queue": False,
        "organization_id": None,
        "campaign_id": None,
        "assigned": False,
        "status": 0,
        "result_message": "",
        "created_at": before(minutes=1),
        "updated_at": before(minutes=1),
        "state": JobState.WAITING,
        "runner": "legacy",
        "run": 1,
        "attempt": 0,
        "options": JobOptions(),
        "run_after": None,
        "submitted_at": None,
        "started_at": None,
        "finished_at": None,
        "cause": "",
        "result": None,
    }
    return JobRequest(**(values | changes))


def an_attempt(**changes: Any) -> Attempt:
    """An attempt that began half a minute ago and runs."""
    values: dict[str, Any] = {
        "job_id": 12,
        "run": 1,
        "number": 1,
        "state": AttemptState.RUNNING,
        "worker": "host:1",
        "claimed_at": before(seconds=30),
        "heartbeat_at": before(seconds=4),
        "lease_expires_at": after(seconds=26),
        "finished_at": None,
        "cause": "",
        "error_type": "",
        "output_tail": "",
    }
    return Attempt(**(values | changes))


def a_trace(**changes: Any) -> Trace:
    """An attempt of another job, ended long before ours was due."""
    values: dict[str, Any] = {
        "job_id": 3,
        "job_type": "report",
        "queue_name": "",
        "locks_queue": False,
        "organization_id": None,
        "priority": 0,
        "worker": "host:1",
        "claimed_at": before(minutes=10),
        "heartbeat_at": before(minutes=9),
        "finished_at": before(minutes=9),
    }
    return Trace(**(values | changes))


def a_load(**changes: Any) -> Load:
    """A worker that runs two jobs."""
    values: dict[str, Any] = {"worker": "host:1", "running": 2, "lapsed": 0, "heartbeat_at": before(seconds=2)}
    return Load(**(values | changes))


def a_holder(**changes: Any) -> Holder:
    """A job that holds our queue's lock."""
    values: dict[str, Any] = {
        "job_id": 9,
        "job_type": "import_contacts",
        "worker": "host:1",
        "since": before(minutes=3),
        "lease_expires_at": after(seconds=20),
        "percent": 40,
        "progressed_at": before(seconds=10),
        "queue_name": "7:contacts",
    }
    return Holder(**(values | changes))


_OF_TAKERS = ("load", "traces", "known_to", "rules_since")


def a_situation(job: JobRequest | None = None, **changes: Any) -> Situation:
    """A waiting job with nothing around it. The fields of :class:`Takers` may be among the changes."""
    takers = Takers(**{name: changes.pop(name) for name in _OF_TAKERS if name in changes})
    return Situation(NOW, job or a_job(), takers=takers, **changes)
