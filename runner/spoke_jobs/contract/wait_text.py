"""Make the text of a :class:`.Wait`, for people. Programs read its fields instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.names import CONTAINER, LABEL_TEMPLATE
from spoke_jobs.contract.quota_message import quota_words
from spoke_jobs.contract.wait_reasons import Wait, WaitReason


def pause(source: str, by: str, note: str, since: datetime | None, until: datetime | None) -> str:
    """Return the sentence about a pause."""
    who = f" (by {by})" if by else ""
    start = f" since {_clock(since)}" if since else ""
    end = f" until {_clock(until)}" if until else ""
    why = f": {note}" if note else ""
    return f"paused by {source}{who}{start}{end}{why}"


def _paused(wait: Wait) -> str:
    return pause(wait.source, wait.by, wait.note, wait.paused_since, wait.retry_at)


def _full(wait: Wait) -> str:
    return f"{wait.running} of at most {wait.limit}"


def _by_source(wait: Wait) -> str:
    return f" ({wait.source})" if wait.source else ""


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


_SENTENCES: Mapping[str, Callable[[Wait], str]] = {
    WaitReason.SUSPENDED: lambda wait: "spec.suspend is true",
    WaitReason.PAUSED: _paused,
    WaitReason.QUEUE_LOCKED: lambda wait: f"SpokeJob {wait.holder} has the queue {wait.object!r}",
    WaitReason.QUEUE_LIMIT_REACHED: lambda wait: (
        f"running jobs of the queue {wait.object!r}: {_full(wait)}{_by_source(wait)}"
    ),
    WaitReason.ORGANIZATION_LIMIT_REACHED: lambda wait: (
        f"running jobs of organization {wait.object}: {_full(wait)}{_by_source(wait)}"
    ),
    WaitReason.TYPE_LIMIT_REACHED: lambda wait: (
        f"running jobs of the type {wait.object!r}: {_full(wait)}{_by_source(wait)}"
    ),
    WaitReason.KEY_LIMIT_REACHED: lambda wait: (
        f"running jobs with the key {wait.object!r}: {_full(wait)}{_by_source(wait)}"
    ),
    WaitReason.RATE_LIMIT_REACHED: lambda wait: f"starts at most {wait.object}{_by_source(wait)}",
    WaitReason.NAMESPACE_LIMIT_REACHED: lambda wait: f"running jobs of the namespace: {_full(wait)}{_by_source(wait)}",
    WaitReason.UNFINISHED_LIMIT_REACHED: lambda wait: (
        f"unfinished jobs of the namespace: {wait.running}; only the oldest {wait.limit} may start{_by_source(wait)}"
    ),
    WaitReason.LIMIT_REACHED: lambda wait: f"running jobs: {_full(wait)}{_by_source(wait)}",
    WaitReason.DATABASE_AWAY: lambda wait: f"the database is away or refuses the namespace's attempts{_since(wait)}",
    WaitReason.CLUSTER_FULL: lambda wait: f"no node has room: {wait.object or 'room'} is short",
    WaitReason.QUOTA_EXCEEDED: lambda wait: quota_words(wait.object, wait.quota),
    WaitReason.START_LIMIT_REACHED: lambda wait: f"starting pods: {_full(wait)}",
    WaitReason.SCHEDULING_GATED: lambda wait: f"scheduling gates: {wait.object}",
    WaitReason.INIT_RUNNING: lambda wait: (
        f"container {wait.object!r} has run since {wait.since:%H:%M:%S} UTC and the job's container waits for it"
        if wait.since
        else f"the job's container waits for container {wait.object!r}"
    ),
    WaitReason.SIDECAR_STARTING: lambda wait: (
        f"sidecar {wait.object!r} has run{f' since {wait.since:%H:%M:%S} UTC' if wait.since else ''}, and its startup "
        f"probe has not succeeded{f': {wait.detail}' if wait.detail else ''}"
    ),
    WaitReason.QUEUED_BY_KUEUE: lambda wait: "the Job is suspended until Kueue admits it",
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
    words = _SENTENCES.get(wait.code)
    if wait.detail and wait.code != WaitReason.SIDECAR_STARTING:  # its sentence has the detail
        of_container = f"container {wait.object!r}: " if wait.object and wait.code in _OF_A_CONTAINER else ""
        return f"{of_container}{wait.detail}"
    text = words(wait) if words else ""
    return text if wait.priority is None or not text else f"{text}; its priority counts as {wait.priority}"


def _since(wait: Wait) -> str:
    return f" since {wait.since:%H:%M:%S} UTC" if wait.since else ""
