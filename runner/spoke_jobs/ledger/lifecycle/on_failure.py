"""Make the job that a final failure dispatches (the option ``on_failure``). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.executors import row_runner
from spoke_jobs.contract.names import PRIORITY_LIMIT
from spoke_jobs.model import FailedJob, JobOptions, JobRequest, JobState, NewJob
from spoke_jobs.shared.clean_text import storable


def after_final_failure(job: JobRequest) -> NewJob | None:
    """Return the job to dispatch after this one's final failure, or None; a cancellation dispatches nothing.

    Other code may have written the options. What the new job's row cannot hold is replaced, because an error would keep
    the failure from being recorded.
    """
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
    stored = known.get("options")
    options = (
        JobOptions.from_json(stored)
        if isinstance(stored, Mapping)
        else JobOptions(pod_template=job.options.pod_template)
    )
    options = replace(options, traceparent=job.options.traceparent)  # it belongs to the same trace
    queue, priority = known.get("queue"), known.get("priority")
    return NewJob(
        job_type=storable(follows),
        payload=storable(payload.model_dump_json()),
        queue_name=storable(queue) if isinstance(queue, str) else "",
        locks_queue=known.get("locksQueue") is True,
        organization_id=job.organization_id,
        campaign_id=job.campaign_id,
        runner=row_runner(job.runner, options.lane),
        assigned=False,
        options=options,
        priority=priority if isinstance(priority, int) and abs(priority) <= PRIORITY_LIMIT else 0,
    )
