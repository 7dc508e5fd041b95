"""End a SpokeJob about which no decision can be made, because each try raises an error."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob, SpokeJobStatus
from spoke_jobs.contract.failed_decisions import message_of
from spoke_jobs_operator.core.diagnosis.attempt_state import Ended
from spoke_jobs_operator.core.objects.api_objects import Job

from . import status
from .actions import ApplyStatus, Decision, DeleteJob, Standing


def undiagnosable(spokejob: SpokeJob, jobs: Iterable[Job], error: Exception, now: datetime) -> Decision:
    """Return the decision that stops the attempt and ends the SpokeJob, without a look at pods, events or limits.

    The Jobs are deleted first: an attempt that holds no place must not run on if the status can't be written.
    """
    stops = tuple(
        DeleteJob(job.meta.key.name, job.meta.uid, str(job.meta.resource_version), wait_for_pods=True)
        for job in jobs
        if job.owner == spokejob.uid and not job.finished and not job.meta.deletion_at
    )
    final = _final(spokejob, message_of(error), now).model_copy(update={"observed_generation": spokejob.generation})
    return Decision(Standing.FINISHED, (*stops, ApplyStatus(final, prompt=True)))


def _final(spokejob: SpokeJob, message: str, now: datetime) -> SpokeJobStatus:
    cause, job_id = Cause.UNDIAGNOSABLE, spokejob.spec.request_id
    try:
        closed = status.attempt_closed(spokejob.status, Ended(cause, message=message), None, now)
        return status.finished(closed, cause, now, message, job_id=job_id)
    except Exception:  # the status itself may be what no code can handle
        return status.finished(SpokeJobStatus(attempt=spokejob.status.attempt), cause, now, message, job_id=job_id)
