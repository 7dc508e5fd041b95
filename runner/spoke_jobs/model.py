"""Plain, frozen values: a dispatch, and the ledger's rows. Nothing here uses a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from spoke_jobs.contract.causes import Cause
from spoke_jobs.job_options import RETENTION_SECONDS as RETENTION_SECONDS
from spoke_jobs.job_options import JobData as JobData
from spoke_jobs.job_options import JobOptions as JobOptions


class JobState(StrEnum):
    """The state of a job; the last two are final."""

    WAITING = "waiting"
    """Before the first attempt, or between two attempts."""
    RUNNING = "running"
    """An attempt holds a claim."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Return whether it is one of the last two."""
        return self in (JobState.SUCCEEDED, JobState.FAILED)


class AttemptState(StrEnum):
    """The state of one attempt."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


SUSPECT_LOSSES = 3
"""A task is a suspect once this many replicas have died while they had it. Each replica and each dispatcher runs one
suspect at a time, so that the next death shows whether the suspect is the reason."""
TASK_LOSSES = 10
"""A task has failed for good once this many replicas have died while they had it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchedJob:
    """What a dispatch gives to a job's row: the columns that :class:`NewJob` and :class:`JobRequest` share."""

    job_type: str
    payload: str
    """JSON text."""
    queue_name: str
    locks_queue: bool = False
    organization_id: int | None
    campaign_id: int | None
    runner: str
    assigned: bool = False
    """Whether a process has the job: the dispatching one, or the one that claimed it."""
    options: JobOptions
    priority: int = 0
    unique_key: str | None = None
    run_after: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob(DispatchedJob):
    """A validated dispatch, ready to be written.

    :raises ValueError: if ``run_after`` has no time zone.
    """

    def __post_init__(self) -> None:
        if self.run_after is not None and self.run_after.utcoffset() is None:
            raise ValueError(f"run_after is {self.run_after.isoformat()}, without a time zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest(DispatchedJob):
    """A row of ``job_request`` at the time it was read.

    The table's columns follow from these fields (:mod:`spoke_jobs.ledger.tables`): the type and whether it may be NULL
    from the annotation, the server's default from the default. Besides the field, a new column needs only a migration.
    """

    id: int
    uid: UUID
    """Distinguishes this row from one with the same id in another database."""
    status: int = 0
    """Percent done; -1 after a failure; 100 after success, or if the job reports it."""
    result_message: str = ""
    """The job's last progress message, or why it failed."""
    created_at: datetime
    updated_at: datetime
    state: JobState
    run: int = 1
    """From 1; a retry by hand starts the next."""
    attempt: int = 0
    """The number of the newest attempt; 0 before the first."""
    start_by: datetime | None = None
    """The latest time of its first start."""
    cancel_requested_at: datetime | None = None
    """When somebody asked to cancel it while it ran."""
    submitted_at: datetime | None = None
    """When the SpokeJob was first known to exist (``kubernetes``)."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    """When the row of a finished job may be pruned."""
    cause: str = ""
    """Why it failed: a name of :data:`spoke_jobs.contract.causes.CAUSES`; empty otherwise."""
    result: Any = None
    """What the job returned, or gave to ``ctx.complete``."""

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list. None: any."""

    states: tuple[JobState, ...] | None = None
    job_type: str | None = None
    """A name, or a pattern such as ``ingest.*``."""
    queue_name: str | None = None
    organization_id: int | None = None
    campaign_id: int | None = None
    cause: str | None = None

    def fits(self, job: JobRequest) -> bool:
        """Return whether the job is one of them."""
        prefix = (self.job_type or "").removesuffix("*")
        return (
            (self.states is None or job.state in self.states)
            and (
                self.job_type is None
                or (job.job_type.startswith(prefix) if self.job_type.endswith(".*") else job.job_type == self.job_type)
            )
            and (self.queue_name is None or job.queue_name == self.queue_name)
            and (self.organization_id is None or job.organization_id == self.organization_id)
            and (self.campaign_id is None or job.campaign_id == self.campaign_id)
            and (self.cause is None or job.cause == self.cause)
        )


ANY_JOB = JobFilter()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of ``job_attempt``; the table's columns follow from these fields, as those of :class:`JobRequest`."""

    job_id: int
    run: int
    number: int
    state: AttemptState
    worker: str
    """Host and process, or the pod."""
    claimed_at: datetime
    heartbeat_at: datetime
    lease_expires_at: datetime
    finished_at: datetime | None = None
    cause: str = ""
    error_type: str = ""
    output_tail: str = ""
    """The last lines of the traceback, if one was raised."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt of a job, until the lease ends without a heartbeat."""

    job: JobRequest
    number: int
    token: UUID
    """Random. Every write of the attempt is guarded by it."""
    lease_seconds: float
    asked_at: float | None = None
    """When it was requested, by this machine's monotonic clock; None if unknown, or requested on another machine."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed."""

    cause: str
    message: str = ""
    """For the ledger only: it may hold values."""
    error_type: str = ""
    output_tail: str = ""
    for_good: bool = False
    retry_after_seconds: float | None = None
    """After how many seconds the job asked to be run again; None: the retry policy decides."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress that a job reports."""

    percent: int
    message: str


class Pulse(StrEnum):
    """The ledger's answer to a heartbeat."""

    HELD = "held"
    CANCELLED = "cancelled"
    """The claim holds, and the job is to be cancelled."""
    GONE = "gone"
    """The token is no longer valid."""


class FailedJob(BaseModel):
    """The payload of a job that the final failure of another job dispatched (``on_failure``)."""

    model_config = ConfigDict(frozen=True)

    id: int
    uid: UUID
    job_type: str
    cause: str
    message: str
    """For the application only: it may hold values."""
    organization_id: int | None = None
    campaign_id: int | None = None


def after_final_failure(job: JobRequest) -> NewJob | None:
    """Return the job to dispatch after this one's final failure, or None; a cancellation dispatches nothing."""
    follows = job.options.on_failure
    if not follows or job.state is not JobState.FAILED or job.cause == Cause.CANCELLED:
        return None
    payload = FailedJob(
        id=job.id,
        uid=job.uid,
        job_type=job.job_type,
        cause=job.cause,
        message=job.result_message,
        organization_id=job.organization_id,
        campaign_id=job.campaign_id,
    )
    known = job.options.on_failure_as or {}
    options = known.get("options")
    queue, priority = known.get("queue"), known.get("priority")
    return NewJob(
        job_type=follows,
        payload=payload.model_dump_json(),
        queue_name=queue if isinstance(queue, str) else "",
        locks_queue=known.get("locksQueue") is True,
        organization_id=job.organization_id,
        campaign_id=job.campaign_id,
        runner=job.runner,
        assigned=False,
        options=JobOptions.from_json(options)
        if isinstance(options, Mapping)
        else JobOptions(pod_template=job.options.pod_template),
        priority=priority if isinstance(priority, int) else 0,
    )


def declared(options: JobOptions, *, queue_name: str, locks_queue: bool, priority: int) -> dict[str, Any]:
    """Return a declaration as plain JSON, without its own ``on_failure``, so that no chain of failures is endless."""
    return {
        "options": replace(options, on_failure="", on_failure_as=None).to_json(),
        "queue": queue_name,
        "locksQueue": locks_queue,
        "priority": priority,
    }
