"""Make the SpokeJob of a job's row. Pure, and the same in every process that creates it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from annotated_types import Ge, Le
from pydantic import BaseModel

from spoke_jobs.contract import labels, names
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokejob import LARGEST_MEASURED_BYTES, Budget, Retry, SpokeJobSpec
from spoke_jobs.contract.executors import Lane, moved_to_pod
from spoke_jobs.contract.option_checks import AUTO
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.job_options import OPTION_NAMES, OPTIONS, default_of
from spoke_jobs.model import JobRequest

_ALWAYS = ("queue_name", "locks_queue", "pod_template", "retry")
"""Options that every SpokeJob has."""


def name_of(job: JobRequest) -> str:
    """Return the SpokeJob's name. It is always the same, so that a repeated creation finds the first SpokeJob."""
    return names.spokejob_name(job.job_type, job.id, job.uid, job.run)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the ledger knows from measurements when a SpokeJob is made."""

    memory_bytes: int | None = None
    """How much memory an attempt in a worker had when it ran out of memory."""
    requests: Mapping[str, str] = field(default_factory=dict)
    """Requests that suit what earlier jobs of the type used, for a job with ``resources="auto"``."""


NOTHING_MEASURED = Measured()


def needs_measurements(job: JobRequest) -> bool:
    """Whether the job's SpokeJob may depend on what was measured. Only sync makes it then."""
    return has_auto_requests(job) or moved_to_pod(job.runner, job.options.lane)


def has_auto_requests(job: JobRequest) -> bool:
    """Whether the job's pod requests what earlier jobs of its type used."""
    return job.options.resources == AUTO


def spokejob(job: JobRequest, namespace: str, measured: Measured = NOTHING_MEASURED) -> dict[str, Any]:
    """Make the SpokeJob of the job's run: identifiers and options, never the payload.

    Options that nobody has chosen are left out. For these, the installed CRD's defaults apply, whatever its release.

    :raises ValueError: if the row holds values that a SpokeJob can't have (pydantic's ValidationError).
    """
    spec = SpokeJobSpec(
        uid=job.uid,
        request_id=job.id,
        run=job.run,
        job_type=job.job_type,
        queue=job.queue_name,
        locks_queue=job.locks_queue,
        pod_template=job.options.pod_template,
        retry=_retry(job.options.retry),
        **_chosen(job),
        **_measured(measured),
    )
    return {
        "apiVersion": names.API_VERSION,
        "kind": Kind.SPOKEJOB.kind,
        "metadata": {"name": name_of(job), "namespace": namespace, "labels": _labels(job)},
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True),
    }


def _measured(measured: Measured) -> dict[str, Any]:
    """Return the fields for what was measured, unless other code has written what can't be."""
    memory = measured.memory_bytes
    of_worker = memory is not None and 0 < memory <= LARGEST_MEASURED_BYTES
    fields: dict[str, Any] = {"measured_memory_bytes": memory} if of_worker else {}
    return fields | ({"auto_requests": dict(measured.requests)} if measured.requests else {})


def _labels(job: JobRequest) -> dict[str, str]:
    return {
        **labels.DEFAULT_LABELS,
        **(job.options.labels or {}),
        **labels.job_labels(job.job_type, job.queue_name, job.organization_id),
        names.LABEL_MANAGED_BY: labels.MANAGED_BY,
    }


def _chosen(job: JobRequest) -> dict[str, Any]:
    """Return the options that somebody has chosen, by their fields of the spec."""
    chosen: dict[str, Any] = {}
    for option in OPTIONS.values():
        if option.spec_field and option.name not in _ALWAYS:
            value = getattr(job.options if option.name in OPTION_NAMES else job, option.name)
            if option.name == "lane" and value != Lane.STANDBY:  # it says nothing to the operator
                continue
            if value not in (default_of(option), {}) and not (option.name == "resources" and value == AUTO):
                chosen[option.spec_field] = _bounded(value, option.spec_field) if _is_seconds(option.name) else value
    return chosen


def _is_seconds(option: str) -> bool:
    return option.endswith("_seconds")


def _bounded(seconds: float, spec_field: str) -> int:
    """Round seconds up, and lower them to the field's limit."""
    metadata = SpokeJobSpec.model_fields[spec_field].metadata
    limits: list[Any] = [item.le for item in metadata if isinstance(item, Le)]
    return int(min(math.ceil(seconds), *limits))


def _retry(policy: RetryPolicy) -> Retry:
    def within(model: type[BaseModel], name: str, value: Any) -> Any:
        for item in model.model_fields[name].metadata:
            if isinstance(item, Ge):
                value = max(value, item.ge)
            if isinstance(item, Le):
                value = min(value, item.le)
        return value

    budget = {name: within(Budget, name, policy.allowance(CauseClass(name))) for name in Budget.model_fields}
    others = {name: within(Retry, name, getattr(policy, name)) for name in Retry.model_fields if name != "budget"}
    return Retry(budget=Budget(**budget), **{name: None if value == "" else value for name, value in others.items()})
