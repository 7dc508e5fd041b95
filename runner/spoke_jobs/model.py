"""The plain values of the library: what is dispatched, and what the ledger says of it. Frozen, without a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Self
from uuid import UUID

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy, is_count, is_kind, is_wait

TypeName = str | Enum
"""A job's or a task's name: a string, or an enum member whose value is one."""


class JobState(StrEnum):
    """Where a job stands; the last two are final."""

    WAITING = "waiting"
    """Not yet tried, or between two attempts."""
    RUNNING = "running"
    """An attempt holds a claim."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self in (JobState.SUCCEEDED, JobState.FAILED)


class AttemptState(StrEnum):
    """Where one attempt stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobData:
    """What an application dispatches.

    ``payload`` is an instance of the job's payload model, a mapping that validates as one, or plain JSON.
    """

    job_type: TypeName
    payload: Any = None
    queue_name: str = ""
    """Jobs of one queue stand in it together, "12:edit_campaign" say; empty for none."""
    locks_queue: bool = False
    """Of the jobs of one queue that lock it, one runs at a time."""
    organization_id: int | None = None
    campaign_id: int | None = None


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job is to be run, fixed when it is dispatched and kept in its row."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    pod_template: str = "default"
    """The PodTemplate of the job's pods (``kubernetes``; elsewhere ignored)."""

    def to_json(self) -> dict[str, Any]:
        """As kept in the row."""
        return {
            "budget": {str(kind): count for kind, count in self.retry.budget.items()},
            "backoffSeconds": self.retry.backoff_seconds,
            "backoffMaxSeconds": self.retry.backoff_max_seconds,
            "podTemplate": self.pod_template,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a row's options; what an older or newer release left out, added or meant otherwise takes its default."""
        default = cls()

        def wait(name: str, otherwise: float) -> float:
            found: Any = value.get(name)
            return float(found) if is_wait(found) else otherwise

        budget = value.get("budget")
        return cls(
            retry=RetryPolicy(
                budget={CauseClass(kind): count for kind, count in budget.items() if is_kind(kind) and is_count(count)}
                if isinstance(budget, Mapping)
                else default.retry.budget,
                backoff_seconds=wait("backoffSeconds", default.retry.backoff_seconds),
                backoff_max_seconds=wait("backoffMaxSeconds", default.retry.backoff_max_seconds),
            ),
            pod_template=str(value.get("podTemplate", default.pod_template)),
        )


@dataclass(frozen=True, slots=True)
class NewJob:
    """A validated dispatch, ready to be written."""

    job_type: str
    payload: str
    """JSON text."""
    queue_name: str
    locks_queue: bool
    organization_id: int | None
    campaign_id: int | None
    runner: str
    assigned: bool
    options: JobOptions


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A row of ``job_request`` as it was when it was read."""

    id: int
    uid: UUID
    """Tells this row from one with the same id in another database."""
    job_type: str
    payload: str
    """JSON text."""
    queue_name: str
    locks_queue: bool
    organization_id: int | None
    campaign_id: int | None
    assigned: bool
    """Whether a process has been given the job."""
    status: int
    """Percent done; -1 once it has failed; 100 once it has succeeded (or says that it is done)."""
    result_message: str
    """The job's last words on its progress, or why it failed."""
    created_at: datetime
    updated_at: datetime
    state: JobState
    runner: str
    run: int
    """From 1; a retry by hand starts the next."""
    attempt: int
    """The number of the newest attempt; 0 before the first."""
    options: JobOptions
    run_after: datetime | None
    submitted_at: datetime | None
    """When the SpokeJob was seen to exist (``kubernetes``)."""
    started_at: datetime | None
    finished_at: datetime | None
    cause: str
    """Why it failed: a name of :data:`spoke_jobs.contract.causes.CAUSES`; empty otherwise."""
    result: Any
    """What the job returned, or gave to ``ctx.complete``."""

    def evolve(self, **changes: Any) -> Self:
        """The same with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of ``job_attempt``."""

    job_id: int
    run: int
    number: int
    state: AttemptState
    worker: str
    """Host and process, or the pod."""
    claimed_at: datetime
    heartbeat_at: datetime
    lease_expires_at: datetime
    finished_at: datetime | None
    cause: str
    error_type: str
    output_tail: str
    """The last lines of the traceback, if one was raised."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt of a job, until the lease ends without a heartbeat."""

    job: JobRequest
    number: int
    token: UUID
    """Random; everything that the attempt writes counts only with it."""
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed."""

    cause: str
    message: str = ""
    """For the ledger only: it may hold values."""
    error_type: str = ""
    output_tail: str = ""
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job says it has come."""

    percent: int
    message: str
