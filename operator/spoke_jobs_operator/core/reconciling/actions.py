"""The actions that a decision asks the shell to carry out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from spoke_jobs.contract.custom_resources.spokejob import SpokeJobStatus
from spoke_jobs.contract.wait_reasons import HELD_BY_OTHERS, Wait
from spoke_jobs_operator.core.objects.api_objects import Job
from spoke_jobs_operator.core.obstacles.room import Sighting


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create the Job of one attempt. If the SpokeJob already has a Job of this name, that Job counts as created."""

    attempt: int
    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a Job. The API server refuses if the Job has changed since it was read."""

    name: str
    uid: str
    resource_version: str
    wait_for_pods: bool
    """Whether the Job stays, with a deletion timestamp, until its pods are gone (foreground propagation)."""

    @classmethod
    def of(cls, job: Job, *, wait_for_pods: bool = True) -> DeleteJob:
        """Delete this Job."""
        return cls(job.meta.key.name, job.meta.uid, str(job.meta.resource_version), wait_for_pods)


@dataclass(frozen=True, slots=True)
class TakeStandby:
    """Make the SpokeJob the owner of a standby pod's Job. The API server refuses if the Job has changed since."""

    name: str
    uid: str
    resource_version: str
    labels: Mapping[str, str]
    owner: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TellStandby:
    """Tell a standby pod which attempt it has. It accepts the same one again."""

    job: str
    job_uid: str
    ip: str
    variables: Mapping[str, str]
    assigned_at: datetime
    until: datetime
    """When a pod is given up that does not answer, but may have accepted the attempt before."""


@dataclass(frozen=True, slots=True)
class LabelPod:
    """Give a standby pod the labels and annotations of an attempt's pod."""

    name: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ApplyStatus:
    """Write the operator's fields of the status. The API server refuses if the SpokeJob has changed since."""

    status: SpokeJobStatus
    prompt: bool = False
    """Whether the write must not be delayed: it corrects the current status, or a later decision needs it."""

    minor: bool = False
    """Whether the write only says that the SpokeJob now waits for something else."""

    @property
    def may_wait(self) -> bool:
        """Whether the write may be delayed.

        Three kinds of write may be delayed: a minor one; one that says that the SpokeJob waits for others, because
        thousands may do so at the same time; and one that only says that an attempt has started or runs, if the attempt
        has no obstacle and had none.
        """
        if self.minor:
            return True
        newest = self.status.newest
        if self.prompt:
            return False
        if self.status.cause in HELD_BY_OTHERS:
            return True
        return newest is not None and not (newest.finished_at or newest.cause or self.status.cause)


@dataclass(frozen=True, slots=True)
class DeleteSpokeJob:
    """Delete the SpokeJob. The API server refuses if it has changed since it was read."""


@dataclass(frozen=True, slots=True)
class ReadLive:
    """Read SpokeJob, Jobs, pods and template from the API server, then reconcile again."""


@dataclass(frozen=True, slots=True)
class ReadTemplate:
    """Read the PodTemplate from the API server, unless that was done a moment ago, then reconcile again."""


@dataclass(frozen=True, slots=True)
class CheckAgain:
    """Reconcile again after this time, even if no event arrives."""

    after_seconds: float

    @classmethod
    def at(cls, moment: datetime, now: datetime) -> CheckAgain:
        """Reconcile slightly after ``moment``: a check that comes too early has to be repeated."""
        return cls(max(0.0, (moment - now).total_seconds()) + 0.01)


Write = CreateJob | DeleteJob | TakeStandby | TellStandby | LabelPod | ApplyStatus | DeleteSpokeJob
Action = Write | ReadLive | ReadTemplate | CheckAgain


class Standing(StrEnum):
    """How a SpokeJob counts towards the limits."""

    IDLE = "idle"
    """Wants no attempt now: suspended, backing off, or blocked."""
    WAITS = "waits"
    """Wants an attempt, which starts as soon as the limits allow."""
    HOLDS = "holds"
    """Has an attempt, which counts towards the limits."""
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class KeptJob:
    """The Job of a failed attempt that is kept for people to look at. None of its containers runs."""

    uid: str
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """The actions, carried out in order until one fails, and how the SpokeJob counts towards the limits."""

    standing: Standing
    actions: tuple[Action, ...] = ()
    seen: Sighting | None = None
    """How far the open attempt's pod has come, if there is an open attempt."""
    kept: tuple[KeptJob, ...] = ()
    """The SpokeJob's Jobs of failed attempts that are kept for people to look at."""
    rejected: Wait | None = None
    """What the SpokeJob waits for, if the API server rejects its next attempt's Job: the same Job would be rejected
    again."""

    @property
    def writes(self) -> tuple[Write, ...]:
        """The actions that change something in the cluster."""
        return tuple(action for action in self.actions if isinstance(action, Write))
