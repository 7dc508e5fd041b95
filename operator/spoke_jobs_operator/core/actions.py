"""The actions that a decision asks the shell to carry out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from spoke_jobs.contract.spokejob import SpokeJobStatus


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create the Job of one attempt. A Job of this SpokeJob that already has the name counts as created."""

    attempt: int
    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a Job. Refused if it has changed since it was read."""

    name: str
    uid: str
    resource_version: str
    wait_for_pods: bool
    """Whether the Job stays, with a deletion timestamp, until its pods are gone (foreground propagation)."""


@dataclass(frozen=True, slots=True)
class ApplyStatus:
    """Write the operator's fields of the status. Refused if the SpokeJob has changed since it was read."""

    status: SpokeJobStatus
    prompt: bool = False
    """Whether the write must not be delayed: it corrects the current status, or a later decision needs it."""

    @property
    def may_wait(self) -> bool:
        """Whether the write only says that an attempt has started or runs, without an obstacle now or before."""
        newest = self.status.attempts[-1] if self.status.attempts else None
        return newest is not None and not (self.prompt or newest.finished_at or newest.cause or self.status.cause)


@dataclass(frozen=True, slots=True)
class DeleteSpokeJob:
    """Delete the SpokeJob. Refused if it has changed since it was read."""


@dataclass(frozen=True, slots=True)
class ReadLive:
    """Read SpokeJob, Jobs, pods and template from the API server, then reconcile again."""


@dataclass(frozen=True, slots=True)
class CheckAgain:
    """Reconcile again after this time, even if no event arrives."""

    after_seconds: float

    @classmethod
    def at(cls, moment: datetime, now: datetime) -> CheckAgain:
        """Reconcile slightly after ``moment``: a check that comes too early has to be repeated."""
        return cls(max(0.0, (moment - now).total_seconds()) + 0.01)


Action = CreateJob | DeleteJob | ApplyStatus | DeleteSpokeJob | ReadLive | CheckAgain
Write = CreateJob | DeleteJob | ApplyStatus | DeleteSpokeJob


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
class Decision:
    """The actions, carried out in order until one fails, and how the SpokeJob counts towards the limits."""

    standing: Standing
    actions: tuple[Action, ...] = ()

    @property
    def writes(self) -> tuple[Write, ...]:
        """The actions that change something in the cluster."""
        return tuple(action for action in self.actions if isinstance(action, Write))
