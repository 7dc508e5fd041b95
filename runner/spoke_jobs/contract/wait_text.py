"""Make the text of a :class:`.Wait`, for people. Programs read its fields instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spoke_jobs.contract.causes import CAUSES, Cause
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


def group_text(wait: Wait) -> str:
    """Return the text about all jobs that wait like this one: the code, and what the fields of the wait say.

    The status of a SpokeJob does not hold Kubernetes' message. Without it, the meaning of the code says what is wrong.
    """
    said = sentence(wait) if says_all(wait) else ""
    about = "" if said else _about(wait)
    text = f"{wait.code}{f', {about}' if about else ''}"
    codes = (wait.code, wait.object) if wait.code == WaitReason.PODS_NOT_STARTING else (wait.code,)
    means = said or " ".join(filter(None, map(meaning, codes)))
    return f"({text}): {means.rstrip('.')}" if means else f"({text})"


def says_all(wait: Wait) -> bool:
    """Whether the wait's sentence says what the obstacle is."""
    return bool(wait.detail) or is_complete(wait) or (wait.code in _OF_CAUSES and bool(wait.object))


def meaning(code: str) -> str:
    """Return what a reason to wait or a cause means; empty if this release does not know it."""
    known = REASONS.get(code) or CAUSES.get(code)
    return known.meaning if known is not None else ""


def _about(wait: Wait) -> str:
    if not wait.object or wait.code == WaitReason.PODS_NOT_STARTING:  # its object is a code, too
        return wait.object
    if wait.code in _OF_A_CONTAINER:
        return f"container {wait.object!r}"
    return f"ResourceQuota {wait.object!r}" if wait.code == WaitReason.QUOTA_EXCEEDED else repr(wait.object)


def is_complete(wait: Wait) -> bool:
    """Whether the fields of the wait are enough for the sentence of its reason, without a text of Kubernetes."""
    reason = REASONS.get(wait.code)
    return reason is not None and reason.can_say(wait)


def _from_fields(wait: Wait) -> str:
    reason = REASONS.get(wait.code)
    says = reason.row.says if reason is not None else _OF_CAUSES.get(wait.code)
    return says(wait) if says else ""
