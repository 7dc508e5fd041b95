"""A job's row as the SpokeJob to create: pure, and the same whoever creates it."""

from __future__ import annotations

import math
from typing import Any

from spoke_jobs.contract import names
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.contract.spokejob import Budget, Resources, Retry, SpokeJobSpec
from spoke_jobs.model import JobRequest

_LONGEST_BACKOFF_SECONDS = 86_400.0
_LARGEST_BUDGET = 100
_LONGEST_TIMEOUT_SECONDS = 2_592_000
_LONGEST_START_SECONDS = 604_800


def name_of(job: JobRequest) -> str:
    """The SpokeJob's name: the same at every try, so that a second one meets the first one's."""
    return names.spokejob_name(job.job_type, job.id, job.uid, job.run)


def spokejob(job: JobRequest, namespace: str) -> dict[str, Any]:
    """The SpokeJob of the job's run, as the API server takes it: identifiers and options, never the payload.

    What no one has chosen is left out, so that the cluster's CRD fills it in, also if it is of another release.

    :raises ValueError: if the row holds what no SpokeJob may (pydantic's ValidationError).
    """
    spec = SpokeJobSpec(
        uid=job.uid,
        request_id=job.id,
        run=job.run,
        job_type=job.job_type,
        queue=job.queue_name,
        locks_queue=job.locks_queue,
        organization=job.organization_id,
        pod_template=job.options.pod_template,
        retry=_retry(job.options.retry),
        **_chosen(job),
    )
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name_of(job), "namespace": namespace},
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True),
    }


def _chosen(job: JobRequest) -> dict[str, Any]:
    """What somebody has chosen for this job."""
    options = job.options
    chosen: dict[str, Any] = {}
    if job.priority:
        chosen["priority"] = job.priority
    if options.timeout_seconds is not None:
        chosen["timeout_seconds"] = min(math.ceil(options.timeout_seconds), _LONGEST_TIMEOUT_SECONDS)
    if options.start_timeout_seconds is not None:
        chosen["start_timeout_seconds"] = min(math.ceil(options.start_timeout_seconds), _LONGEST_START_SECONDS)
    if options.resources:
        chosen["resources"] = Resources.model_validate(options.resources)
    return chosen


def _retry(policy: RetryPolicy) -> Retry:
    def bounded(name: str) -> int:
        return min(max(policy.allowance(CauseClass(name)), 1), _LARGEST_BUDGET)

    return Retry(
        budget=Budget(**{name: bounded(name) for name in Budget.model_fields}),
        backoff_seconds=min(max(policy.backoff_seconds, 0.0), _LONGEST_BACKOFF_SECONDS),
        backoff_max_seconds=min(max(policy.backoff_max_seconds, 0.0), _LONGEST_BACKOFF_SECONDS),
        jitter=policy.jitter,
        memory_factor=policy.memory_factor,
        memory_max=policy.memory_max or None,
    )
