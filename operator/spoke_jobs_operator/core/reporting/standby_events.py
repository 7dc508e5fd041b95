"""The Kubernetes Events about a PodTemplate and its standby pods."""

from __future__ import annotations

from .job_events import EventReason, EventType, JobEvent, event

_KEEP = "KeepStandbyPods"


def standby_failed(why: str) -> JobEvent:
    """Return the Event that says that a standby pod could not be made, or ended by itself.

    :param why: the cause, or what the API server says; empty if it is not known.
    """
    note = f"A standby pod does not start{f': {why}' if why else ''}. Jobs run in pods of their own meanwhile"
    return event(EventType.WARNING, EventReason.STANDBY_FAILED, _KEEP, note)


def standby_impossible(problem: str) -> JobEvent:
    """Return the Event that says why the PodTemplate can have no standby pods."""
    note = f"No standby pods: {problem}. Jobs run in pods of their own"
    return event(EventType.WARNING, EventReason.STANDBY_IMPOSSIBLE, _KEEP, note)
