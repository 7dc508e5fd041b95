"""What the core asks of the shell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from spoke_jobs.contract.spokejob import SpokeJobStatus


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create the Job of one attempt. If its name is taken by this SpokeJob's own Job, that counts as created."""

    attempt: int
    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a Job, if it still is as it was read."""

    name: str
    uid: str
    resource_version: str
    wait_for_pods: bool
    """Whether the Job stays visible, as being deleted, until its pods are gone (foreground propagation)."""


@dataclass(frozen=True, slots=True)
class ApplyStatus:
    """Write the operator's fields of the status; refused if the SpokeJob has changed since it was read."""

    status: SpokeJobStatus
    prompt: bool = False
    """It takes back what stands there, or something hangs on its being recorded."""

    @property
    def may_wait(self) -> bool:
        """Whether it only says that an attempt has begun, or goes on, with nothing in its way, now or before."""
        newest = self.status.attempts[-1] if self.status.attempts else None
        return newest is not None and not (self.prompt or newest.finished_at or newest.cause or self.status.cause)


@dataclass(frozen=True, slots=True)
class DeleteSpokeJob:
    """Delete the SpokeJob, if it still is the one that was read."""


@dataclass(frozen=True, slots=True)
class ReadLive:
    """Read SpokeJob, Jobs, pods and template from the API server, then reconcile again."""


@dataclass(frozen=True, slots=True)
class CheckAgain:
    """Reconcile again, even if nothing is heard by then."""

    after_seconds: float

    @classmethod
    def at(cls, moment: datetime, now: datetime) -> CheckAgain:
        """Check at a moment: slightly late, because a check that is early has to be repeated."""
        return cls(max(0.0, (moment - now).total_seconds()) + 0.01)


Action = CreateJob | DeleteJob | ApplyStatus | DeleteSpokeJob | ReadLive | CheckAgain
Write = CreateJob | DeleteJob | ApplyStatus | DeleteSpokeJob


class Standing(StrEnum):
    """How a SpokeJob stands towards the limits on running jobs."""

    IDLE = "idle"
    """Wants nothing now: suspended, backing off, or blocked."""
    WAITS = "waits"
    """Could start if the limits let it."""
    HOLDS = "holds"
    """Has an attempt, and so takes one place."""
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from what is seen; the actions are carried out in order, and the first failure ends the rest."""

    standing: Standing
    actions: tuple[Action, ...] = ()

    @property
    def writes(self) -> tuple[Write, ...]:
        """The actions that change something in the cluster."""
        return tuple(action for action in self.actions if isinstance(action, Write))
