"""The public names. ``from spoke_jobs import job`` imports them from here."""

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.dispatch import (
    adispatch_job,
    adispatch_jobs,
    adispatch_task,
    aget_job,
    close,
    configure,
    dispatch_job,
    dispatch_jobs,
    dispatch_task,
    get_job,
    use_runner,
)
from spoke_jobs.errors import (
    Cancelled,
    ConfigurationError,
    DatabaseError,
    Discard,
    InvalidJobData,
    InvalidPayload,
    RegistrationError,
    RetryLater,
    SpokeJobsError,
    Superseded,
    TaskBufferFull,
    UniquenessConflict,
    UnknownName,
)
from spoke_jobs.execution.context import JobContext, TaskContext
from spoke_jobs.model import Attempt, AttemptState, FailedJob, JobData, JobRequest, JobState
from spoke_jobs.registry import Registry, job, task
from spoke_jobs.runners.runner import Runner

__all__ = [
    "Attempt",
    "AttemptState",
    "Cancelled",
    "CauseClass",
    "ConfigurationError",
    "DatabaseError",
    "Discard",
    "FailedJob",
    "InvalidJobData",
    "InvalidPayload",
    "JobContext",
    "JobData",
    "JobRequest",
    "JobState",
    "RegistrationError",
    "Registry",
    "RetryLater",
    "RetryPolicy",
    "Runner",
    "SpokeJobsError",
    "Superseded",
    "TaskBufferFull",
    "TaskContext",
    "UniquenessConflict",
    "UnknownName",
    "adispatch_job",
    "adispatch_jobs",
    "adispatch_task",
    "aget_job",
    "close",
    "configure",
    "dispatch_job",
    "dispatch_jobs",
    "dispatch_task",
    "get_job",
    "job",
    "task",
    "use_runner",
]
