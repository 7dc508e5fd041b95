"""When a cause could first be known."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.operator.causes.stage import Stage, state
from tests.integration.operator.sightings import EVENTS, JOBS, PODS, SPOKEJOBS, Sighting, seconds_of
from tests.waiting import eventually

Moment = Callable[[Stage, str], float]
START_TIMEOUT_SECONDS = 75
"""Of the jobs that never start. All start at once, so a pod on a busy machine takes a while to show what it lacks."""


def container_ended(stage: Stage, name: str) -> float:
    return stage.seen.until(
        name, "the container's end", lambda item: item.kind == PODS and "terminated" in state(item)
    ).at


def pod_failed(stage: Stage, name: str) -> float:
    def failed(item: Sighting) -> bool:
        return item.kind == PODS and item.status.get("phase") == "Failed"

    return stage.seen.until(name, "the pod's end", failed).at


def pod_gone(stage: Stage, name: str) -> float:
    def gone(item: Sighting) -> bool:
        return item.kind == PODS and (item.gone or "deletionTimestamp" in item.body["metadata"])

    return stage.seen.until(name, "the pod's deletion", gone).at


def job_gone(stage: Stage, name: str) -> float:
    def gone(item: Sighting) -> bool:
        return item.kind == JOBS and (item.gone or "deletionTimestamp" in item.body["metadata"])

    return stage.seen.until(name, "the Job's deletion", gone).at


def ran_too_long(stage: Stage, name: str) -> float:
    """The stand-in does not end its function itself, so the operator does, once start timeout and timeout are over."""
    started: str = state(stage.pod(name))["running"]["startedAt"]
    return seconds_of(started) + START_TIMEOUT_SECONDS + 2


def started_too_late(stage: Stage, name: str) -> float:
    created = stage.seen.until(name, "its Job", lambda item: item.kind == JOBS)
    return seconds_of(created.body["metadata"]["creationTimestamp"]) + START_TIMEOUT_SECONDS


def blocked_too_long(stage: Stage, name: str) -> float:
    created = stage.seen.until(name, "it", lambda item: item.kind == SPOKEJOBS)
    return seconds_of(created.body["metadata"]["creationTimestamp"]) + START_TIMEOUT_SECONDS


def submitted(stage: Stage, name: str) -> float:
    return stage.seen.until(name, "it", lambda item: item.kind == SPOKEJOBS).at


def of_moment(stage: Stage, name: str) -> float:
    return eventually(lambda: stage.moments.get(name), f"{name} is acted upon")


def container_waits(*reasons: str) -> Moment:
    def visible(stage: Stage, name: str) -> float:
        def waits(item: Sighting) -> bool:
            return item.kind == PODS and state(item).get("waiting", {}).get("reason") in reasons

        return stage.seen.until(name, f"the container waits: {reasons}", waits).at

    return visible


def event(reason: str) -> Moment:
    def visible(stage: Stage, name: str) -> float:
        return stage.seen.until(
            name, f"the Event {reason}", lambda item: item.kind == EVENTS and item.body["reason"] == reason
        ).at

    return visible


def unscheduled(stage: Stage, name: str) -> float:
    def waits(item: Sighting) -> bool:
        conditions = item.status.get("conditions", ())
        return item.kind == PODS and any(each.get("reason") == "Unschedulable" for each in conditions)

    return stage.seen.until(name, "the scheduler's word", waits).at
