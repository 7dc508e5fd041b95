"""Make the text of a :class:`.Wait`, for people. Programs read its fields instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.names import CONTAINER, LABEL_TEMPLATE
from spoke_jobs.contract.wait_reasons import Wait, WaitReason

_SENTENCES: Mapping[str, Callable[[Wait], str]] = {
    WaitReason.SUSPENDED: lambda wait: "spec.suspend is true",
    WaitReason.QUEUE_LOCKED: lambda wait: f"SpokeJob {wait.holder} has the queue {wait.object!r}",
    WaitReason.QUEUE_LIMIT_REACHED: lambda wait: f"{_full(wait)} of the queue {wait.object!r} run",
    WaitReason.ORGANIZATION_LIMIT_REACHED: lambda wait: f"{_full(wait)} of organization {wait.object} run",
    WaitReason.NAMESPACE_LIMIT_REACHED: lambda wait: f"{_full(wait)} of the namespace run",
    WaitReason.LIMIT_REACHED: lambda wait: f"{_full(wait)} run",
    WaitReason.QUEUED_BY_KUEUE: lambda wait: "the Job is suspended until Kueue admits it",
    Cause.TEMPLATE_MISSING: lambda wait: f"no PodTemplate {wait.object!r} in the job's namespace",
    Cause.TEMPLATE_NOT_ALLOWED: lambda wait: f'PodTemplate {wait.object!r} is not labeled {LABEL_TEMPLATE}: "true"',
    Cause.TEMPLATE_INVALID: lambda wait: f"PodTemplate {wait.object!r} has no container named {CONTAINER!r}",
    Cause.NAME_TAKEN: lambda wait: (
        f"Job {wait.object!r} belongs to another object: delete it so that this attempt can start"
    ),
}


def sentence(wait: Wait) -> str:
    """Return the sentence for the condition's message and for `why`; empty if the code alone is enough."""
    words = _SENTENCES.get(wait.code)
    return wait.detail or (words(wait) if words else "")


def _full(wait: Wait) -> str:
    return f"{wait.running} of {wait.limit}"
