"""Make the text of a :class:`.Wait`, for people. Programs read its fields instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.names import CONTAINER, LABEL_TEMPLATE
from spoke_jobs.contract.wait_reasons import REASONS, Wait, WaitReason

_OF_CAUSES: Mapping[str, Callable[[Wait], str]] = {
    Cause.TEMPLATE_MISSING: lambda wait: f"no PodTemplate {wait.object!r} in the job's namespace",
    Cause.TEMPLATE_NOT_ALLOWED: lambda wait: f'PodTemplate {wait.object!r} is not labeled {LABEL_TEMPLATE}: "true"',
    Cause.TEMPLATE_INVALID: lambda wait: f"PodTemplate {wait.object!r} has no container named {CONTAINER!r}",
    Cause.TYPE_NOT_ALLOWED: lambda wait: f"PodTemplate {wait.object!r} is not for jobs of this type",
    Cause.NAME_TAKEN: lambda wait: (
        f"Job {wait.object!r} belongs to another object: delete it so that this attempt can start"
    ),
}

_OF_A_CONTAINER = {
    WaitReason.REGISTRY_AWAY,
    Cause.IMAGE_UNAVAILABLE,
    Cause.CONTAINER_CONFIG_ERROR,
    Cause.CONTAINER_CANNOT_RUN,
    Cause.CONTAINER_RUNTIME_FAILED,
}
"""The codes whose object is a container, if it is not the job's."""


def sentence(wait: Wait) -> str:
    """Return the sentence for the condition's message and for `why`; empty if the code alone is enough."""
    if wait.detail and wait.code != WaitReason.SIDECAR_STARTING:  # its sentence has the detail
        of_container = f"container {wait.object!r}: " if wait.object and wait.code in _OF_A_CONTAINER else ""
        return f"{of_container}{wait.detail}"
    text = _from_fields(wait)
    return text if wait.priority is None or not text else f"{text}; its priority counts as {wait.priority}"


def is_complete(wait: Wait) -> bool:
    """Whether the fields of the wait are enough for the sentence of its reason, without a text of Kubernetes."""
    reason = REASONS.get(wait.code)
    return reason is not None and reason.can_say(wait)


def _from_fields(wait: Wait) -> str:
    reason = REASONS.get(wait.code)
    says = reason.row.says if reason is not None else _OF_CAUSES.get(wait.code)
    return says(wait) if says else ""
