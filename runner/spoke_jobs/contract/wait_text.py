"""The text of what a SpokeJob waits for. Nothing reads it back: the fields of :class:`.Wait` travel beside it."""

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
    Cause.TEMPLATE_NOT_ALLOWED: lambda wait: f'PodTemplate {wait.object!r} is not labelled {LABEL_TEMPLATE}: "true"',
    Cause.TEMPLATE_INVALID: lambda wait: f"PodTemplate {wait.object!r} has no container named {CONTAINER!r}",
    Cause.NAME_TAKEN: lambda wait: (
        f"Job {wait.object!r} is another object's: it has to go before this attempt can start"
    ),
}


def sentence(wait: Wait) -> str:
    """What is the case, for the condition's message and for `why`; empty where the code says it all."""
    words = _SENTENCES.get(wait.code)
    return wait.detail or (words(wait) if words else "")


def _full(wait: Wait) -> str:
    return f"{wait.running} of {wait.limit}"
