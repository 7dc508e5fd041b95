"""What filters and closed scopes mean for a single job. The product has them in SQL; tests compare the two."""

from __future__ import annotations

from typing import Any

from spoke_jobs.contract.executors import lane_in
from spoke_jobs.contract.limit_scopes import PLAIN_DIMENSIONS, Subject
from spoke_jobs.limits.admission import Closed
from spoke_jobs.model import ClaimFilter, JobFilter, JobRequest
from spoke_jobs.type_names import is_known, matches


def passes(which: JobFilter, job: Any) -> bool:
    """Whether a job passes a filter."""
    return (
        (which.states is None or job.state in which.states)
        and (which.job_type is None or matches(job.job_type, which.job_type))
        and (which.queue_name is None or matches(job.queue_name, which.queue_name))
        and (which.organization_id is None or job.organization_id == which.organization_id)
        and (which.campaign_id is None or job.campaign_id == which.campaign_id)
        and (which.cause is None or job.cause == which.cause)
        and (which.other_cause_than is None or job.cause != which.other_cause_than)
        and (which.fingerprint is None or job.fingerprint == which.fingerprint)
        and (which.since is None or job.created_at >= which.since)
        and (which.until is None or job.created_at < which.until)
        and (which.runner is None or job.runner == which.runner)
        and (which.lane is None or lane_in(job.runner, job.options.lane) == which.lane)
        and (which.organizations is None or job.organization_id in which.organizations)
        and (which.unique_key is None or job.unique_key == which.unique_key)
        and (which.batch_id is None or job.batch_id == which.batch_id)
        and (which.schedule is None or job.schedule == which.schedule)
        and (which.last_id is None or job.id <= which.last_id)
        and (which.first_id is None or job.id >= which.first_id)
    )


def takes(only: ClaimFilter, job: JobRequest) -> bool:
    """Whether a worker takes a job."""
    if job.locks_queue and not only.queue_locks:
        return False
    wanted = not only.queues or any(matches(job.queue_name, pattern) for pattern in only.queues)
    unwanted = any(matches(job.queue_name, pattern) for pattern in only.not_queues)
    return only.takes_type(job.job_type) and wanted and not unwanted


def covers(closed: Closed, subject: Subject) -> bool:
    """Whether a job is one of those of which none may start."""
    named = [(dimension, getattr(subject, dimension.field)) for dimension in PLAIN_DIMENSIONS]
    return (
        closed.everything
        or is_known(subject.job_type, closed.types)
        or any(
            value != dimension.none and (dimension.kind in closed.every or (dimension.kind, str(value)) in closed.named)
            for dimension, value in named
        )
    )
