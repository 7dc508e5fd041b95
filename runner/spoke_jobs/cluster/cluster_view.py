"""What the commands read in the cluster. Frozen; this module does not import the Kubernetes client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from spoke_jobs.contract.custom_resources.spokejob import Outcome, SpokeJob
from spoke_jobs.contract.operator_state import Publication, PublishedPool, PublishedStandby
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs.contract.wait_status import WaitStatus
from spoke_jobs.shared.object_fields import Body, items, mapping, moment, number, text

SILENCE = timedelta(seconds=150)
"""The operator writes at least once a minute to a namespace with unfinished jobs. Two missed writes: it is down."""
_FINAL = frozenset(outcome for outcome in Outcome if outcome.final)


@dataclass(frozen=True, slots=True)
class PublishedTurns:
    """What the operator published about the namespace."""

    at: datetime
    turns: tuple[str, ...] = ()
    """The first SpokeJobs that wait for admission, in the order of their turns."""
    waiting: int = 0
    standby: tuple[PublishedStandby, ...] = ()
    """The PodTemplates that lack standby pods."""
    standby_pods: tuple[PublishedPool, ...] = ()
    """How many standby pods there are, by PodTemplate."""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What was read. Anything may be missing: the account may lack access, or the object does not exist."""

    name: str
    """The SpokeJob's name, whether it exists or not."""
    namespace: str = ""
    spokejob: SpokeJob | None = None
    holder: SpokeJob | None = None
    """The SpokeJob that holds the queue's lock, if the job waits for that."""
    published: PublishedTurns | None = None
    pulls: int = 0
    """How often the kubelet tried to pull the job's image; 0 if unknown."""
    excluded: bool = False
    """Whether the job has no SpokeJob, and its PodTemplate is not for jobs of its type, so that sync launches none."""
    problem: str = ""
    """Why the cluster could not be read."""
    unreadable: tuple[str, ...] = ()
    """The objects that exist and could not be read."""


@dataclass(frozen=True, slots=True)
class WaitingSpokeJob:
    """A SpokeJob that waits, and why."""

    job_id: int
    uid: str
    """The job's."""
    wait: Wait
    created_at: datetime | None
    template: str = ""
    """The name of its PodTemplate."""
    namespace: str = ""
    message: str = ""
    """What Kubernetes says about the obstacle; empty if nothing is known."""
    job_type: str = ""
    queue: str = ""
    organization: int = 0
    """The id of the job's organization; 0 if it has none."""


@dataclass(frozen=True, slots=True)
class SpokeJobWaits:
    """What was read."""

    waiting: tuple[WaitingSpokeJob, ...] = ()
    problem: str = ""
    """Why the cluster could not be read."""
    more: bool = False
    """Whether there are more SpokeJobs than were read."""
    oldest_unfinished: datetime | None = None
    """When the oldest SpokeJob without a final outcome was created; None if there is none."""
    nodes: tuple[tuple[str, int], ...] = ()
    """The nodes that run attempts, with the number of these, the busiest first."""


@dataclass(frozen=True, slots=True)
class PodTail:
    """What a pod's job has printed last."""

    lines: tuple[str, ...] = ()
    """As it printed them, control characters included."""
    problem: str = ""
    """Why they could not be read."""


def times(event: Body) -> int:
    """Return how often an event has happened."""
    return number(mapping(event, "series"), "count") or number(event, "count") or 1


def read_published(data: Mapping[str, Any] | None) -> PublishedTurns | None:
    """Read the data of the operator's ConfigMap; None if it doesn't exist or is malformed."""
    found = Publication.read(data)
    if found is None:
        return None
    state = found.state
    return PublishedTurns(found.at, state.turns, state.waiting, state.standby, state.standby_pods)


def waits_of(bodies: Iterable[Body]) -> Iterator[WaitingSpokeJob]:
    """Yield what SpokeJobs wait for. Those that don't wait, or can't be read, are left out."""
    for body in bodies:
        status, spec = mapping(body, "status"), mapping(body, "spec")
        wait = _wait(mapping(status, "waiting"))
        job_id = number(spec, "requestId")
        if text(status, "outcome") == "Waiting" and wait is not None and job_id > 0:
            metadata = mapping(body, "metadata")
            yield WaitingSpokeJob(
                job_id,
                text(spec, "uid"),
                wait,
                moment(metadata, "creationTimestamp"),
                text(spec, "podTemplate"),
                text(metadata, "namespace"),
                next((text(item, "message") for item in items(status, "conditions") if _is_about(item, wait)), ""),
                text(spec, "jobType"),
                text(spec, "queue"),
                number(spec, "organization"),
            )


def unfinished_since(bodies: Iterable[Body]) -> Iterator[datetime]:
    """Yield when the SpokeJobs without a final outcome were created, also those that no operator has handled."""
    for body in bodies:
        created = moment(mapping(body, "metadata"), "creationTimestamp")
        if created is not None and text(mapping(body, "status"), "outcome") not in _FINAL:
            yield created


def busy_nodes(bodies: Iterable[Body]) -> Iterator[str]:
    """Yield the node of each attempt that runs."""
    for body in bodies:
        status = mapping(body, "status")
        newest = next(reversed(items(status, "attempts")), {})
        if (
            text(status, "outcome") == Outcome.RUNNING
            and not text(newest, "finishedAt")
            and (node := text(newest, "node"))
        ):
            yield node


def _is_about(condition: Body, wait: Wait) -> bool:
    return text(condition, "reason") == wait.code and text(condition, "status") == "False"


def _wait(fields: Body) -> Wait | None:
    if not fields:
        return None
    try:
        return WaitStatus.model_validate(fields).to_wait()
    except ValidationError:
        return None
