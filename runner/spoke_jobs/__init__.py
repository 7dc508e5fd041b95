"""Background jobs that an application can trust: recorded in SQL, run on a laptop or on Kubernetes by the same code.

Declare functions with :func:`job` and :func:`task`; dispatch with :func:`dispatch_job` and :func:`dispatch_task`;
``JOB_RUNNER`` says who runs them.
"""

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.dispatch import adispatch_job, adispatch_task, configure, dispatch_job, dispatch_task
from spoke_jobs.errors import (
    Cancelled,
    ConfigurationError,
    DatabaseError,
    InvalidJobData,
    InvalidPayload,
    RegistrationError,
    SpokeJobsError,
    Superseded,
    TaskBufferFull,
    UnknownName,
)
from spoke_jobs.execution.context import JobContext, TaskContext
from spoke_jobs.model import Attempt, AttemptState, JobData, JobRequest, JobState
from spoke_jobs.registry import Registry, job, task
from spoke_jobs.runners.protocol import Runner

__version__ = "0.1.0"

__all__ = [
    "Attempt",
    "AttemptState",
    "Cancelled",
    "ConfigurationError",
    "DatabaseError",
    "InvalidJobData",
    "InvalidPayload",
    "JobContext",
    "JobData",
    "JobRequest",
    "JobState",
    "RegistrationError",
    "Registry",
    "RetryPolicy",
    "Runner",
    "SpokeJobsError",
    "Superseded",
    "TaskBufferFull",
    "TaskContext",
    "UnknownName",
    "adispatch_job",
    "adispatch_task",
    "configure",
    "dispatch_job",
    "dispatch_task",
    "job",
    "task",
]
