"""The plain values of the library: what is dispatched, and what the ledger says of it. Frozen, without a database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from spoke_jobs.contract.causes import Cause, CauseClass
from spoke_jobs.contract.retry import (
    RetryPolicy,
    is_count,
    is_duration,
    is_factor,
    is_jitter,
    is_kind,
    is_quantity,
    is_wait,
)
from spoke_jobs.type_names import TypeName


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
    """What an application dispatches. What is None is as the job was declared.

    ``payload`` is an instance of the job's payload model, a mapping that validates as one, or plain JSON.
    """

    job_type: TypeName
    payload: Any = None
    queue_name: str | None = None
    """Jobs of one queue stand in it together, "12:edit_campaign" say; empty for none."""
    locks_queue: bool | None = None
    """Of the jobs of one queue that lock it, one runs at a time."""
    organization_id: int | None = None
    campaign_id: int | None = None
    priority: int | None = None
    """From -1000 to 1000; of the jobs that are due, those of a higher priority start first, and of those the oldest."""
    run_after: datetime | None = None
    """Not to be started before; with a time zone."""
    unique_key: str | None = None
    """Of the unfinished jobs with the same key there is one: another dispatch returns that one's row."""
    timeout_seconds: float | None = None
    start_timeout_seconds: float | None = None
    retention_seconds: float | None = None
    retry: RetryPolicy | None = None
    pod_template: str | None = None
    resources: Resources | None = None


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How a task is to be run."""

    timeout_seconds: float = 300.0
    """How long one run may take."""
    attempts: int = 3
    """How many runs that fail end it."""
    backoff_seconds: float = 0.5
    """The wait before the second run; it doubles with each."""
    backoff_max_seconds: float = 30.0


Resources = Mapping[str, Mapping[str, str]]
"""What a pod's container asks for: ``{"requests": {"memory": "512Mi"}, "limits": {"memory": "1Gi"}}``."""

RETENTION_SECONDS = 7 * 86_400.0

SUSPECT_LOSSES = 3
"""A task that was in the hands of so many replicas that died is suspected to be what kills them. Each replica and
each dispatcher tries one suspect at a time, so that the next death tells it from its companions."""
TASK_LOSSES = 10
"""After so many it has failed for good."""


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job is to be run, fixed when it is dispatched and kept in its row."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_seconds: float | None = None
    """How long one attempt may run; None for as long as it takes."""
    start_timeout_seconds: float | None = None
    """How long the job may wait for its first start once it is due; None for ever, or as the cluster has it."""
    retention_seconds: float = RETENTION_SECONDS
    """How long the row stays after the job's end."""
    pod_template: str = "default"
    """The PodTemplate of the job's pods (``kubernetes``; elsewhere ignored)."""
    resources: Resources | None = None
    """What its container asks for beyond the template (``kubernetes``; elsewhere ignored)."""
    payload_version: int = 1
    """The version of the payload's model that dispatched it."""
    on_failure: str = ""
    """The job to dispatch once this one has failed for good; empty for none."""
    on_failure_as: Mapping[str, Any] | None = None
    """How that job is declared (:func:`declared`): who records a final failure may not know the application's code."""

    def to_json(self) -> dict[str, Any]:
        """As kept in the row."""
        return {
            "budget": {str(kind): count for kind, count in self.retry.budget.items()},
            "backoffSeconds": self.retry.backoff_seconds,
            "backoffMaxSeconds": self.retry.backoff_max_seconds,
            "jitter": self.retry.jitter,
            "never": list(self.retry.never_names),
            "memoryFactor": self.retry.memory_factor,
            "memoryMax": self.retry.memory_max,
            "timeoutSeconds": self.timeout_seconds,
            "startTimeoutSeconds": self.start_timeout_seconds,
            "retentionSeconds": self.retention_seconds,
            "podTemplate": self.pod_template,
            "resources": self.resources,
            "payloadVersion": self.payload_version,
            "onFailure": self.on_failure,
            "onFailureAs": self.on_failure_as,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a row's options; what an older or newer release left out, added or meant otherwise takes its default."""
        return _options_from_json(cls, value)


_Options = TypeVar("_Options", bound=JobOptions)


def _options_from_json(cls: type[_Options], value: Mapping[str, Any]) -> _Options:
    default, policy = cls(), RetryPolicy()

    def take(name: str, fits: Callable[[Any], bool], otherwise: Any) -> Any:
        found = value.get(name)
        return found if fits(found) else otherwise

    budget = value.get("budget")
    never = value.get("never")
    version: Any
    version, resources = value.get("payloadVersion"), value.get("resources")
    return cls(
        retry=RetryPolicy(
            budget={CauseClass(kind): count for kind, count in budget.items() if is_kind(kind) and is_count(count)}
            if isinstance(budget, Mapping)
            else policy.budget,
            backoff_seconds=float(take("backoffSeconds", is_wait, policy.backoff_seconds)),
            backoff_max_seconds=float(take("backoffMaxSeconds", is_wait, policy.backoff_max_seconds)),
            jitter=float(take("jitter", is_jitter, policy.jitter)),
            never=tuple(name for name in never if isinstance(name, str)) if isinstance(never, list) else (),
            memory_factor=float(take("memoryFactor", is_factor, policy.memory_factor)),
            memory_max=take("memoryMax", is_quantity, policy.memory_max),
        ),
        timeout_seconds=take("timeoutSeconds", is_duration, default.timeout_seconds),
        start_timeout_seconds=take("startTimeoutSeconds", is_duration, default.start_timeout_seconds),
        retention_seconds=float(take("retentionSeconds", is_wait, default.retention_seconds)),
        pod_template=str(value.get("podTemplate", default.pod_template)),
        resources=resources if isinstance(resources, Mapping) else None,
        payload_version=version if is_count(version) else default.payload_version,
        on_failure=str(value.get("onFailure", default.on_failure)),
        on_failure_as=follower if isinstance(follower := value.get("onFailureAs"), Mapping) else None,
    )


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
    """Whether a process has been given the job."""
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
    from the annotation, the server's default from the default. A new field needs a migration besides, nothing else.
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
    """When the SpokeJob was seen to exist (``kubernetes``)."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    """When the row of a finished job may be pruned."""
    cause: str = ""
    """Why it failed: a name of :data:`spoke_jobs.contract.causes.CAUSES`; empty otherwise."""
    result: Any = None
    """What the job returned, or gave to ``ctx.complete``."""

    def evolve(self, **changes: Any) -> Self:
        """The same with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; None for any."""

    states: tuple[JobState, ...] | None = None
    job_type: str | None = None
    """A name, or a prefix as ``ingest.*``."""
    queue_name: str | None = None
    organization_id: int | None = None
    campaign_id: int | None = None
    cause: str | None = None

    def fits(self, job: JobRequest) -> bool:
        """Whether the job is one of them."""
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
    """Random; everything that the attempt writes counts only with it."""
    lease_seconds: float
    asked_at: float | None = None
    """When it was asked for, by this machine's monotonic clock; None if that isn't known, or was elsewhere."""


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
    """When the job asked to be run again; None for the retry policy's own time."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job says it has come."""

    percent: int
    message: str


class Pulse(StrEnum):
    """What the ledger answers to a heartbeat."""

    HELD = "held"
    CANCELLED = "cancelled"
    """The claim holds, and somebody has asked for the job's end."""
    GONE = "gone"
    """The token holds no claim any more."""


class FailedJob(BaseModel):
    """The payload of a job that another one's final failure dispatched (``on_failure``)."""

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
    """The job to dispatch now that this one has failed for good; None if nothing follows, as after a cancellation."""
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


def declared(options: JobOptions, *, queue_name: str, locks_queue: bool, priority: int) -> Mapping[str, Any]:
    """A declaration as plain JSON. What would follow its own failure is left out: the chain has an end."""
    return {
        "options": replace(options, on_failure="", on_failure_as=None).to_json(),
        "queue": queue_name,
        "locksQueue": locks_queue,
        "priority": priority,
    }
