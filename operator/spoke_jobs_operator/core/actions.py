"""What a decision asks the shell to do."""

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
    """Delete a Job, if it has not changed since it was read."""

    name: str
    uid: str
    resource_version: str
    wait_for_pods: bool
    """Whether the Job remains, marked as being deleted, until its pods are gone (foreground propagation)."""


@dataclass(frozen=True, slots=True)
class ApplyStatus:
    """Write the operator's fields of the status; refused if the SpokeJob has changed since it was read."""

    status: SpokeJobStatus
    prompt: bool = False
    """Whether it must not be delayed: it corrects the present status, or a later decision needs it."""

    @property
    def may_wait(self) -> bool:
        """Whether it only says that an attempt has begun or goes on, without an obstacle now or before."""
        newest = self.status.attempts[-1] if self.status.attempts else None
        return newest is not None and not (self.prompt or newest.finished_at or newest.cause or self.status.cause)


@dataclass(frozen=True, slots=True)
class DeleteSpokeJob:
    """Delete the SpokeJob, if it is still the one that was read."""


@dataclass(frozen=True, slots=True)
class ReadLive:
    """Read SpokeJob, Jobs, pods and template from the API server, then reconcile again."""


@dataclass(frozen=True, slots=True)
class CheckAgain:
    """Reconcile again, even without an event until then."""

    after_seconds: float

    @classmethod
    def at(cls, moment: datetime, now: datetime) -> CheckAgain:
        """Check at a moment: slightly late, because a check that is early has to be repeated."""
        return cls(max(0.0, (moment - now).total_seconds()) + 0.01)


Action = CreateJob | DeleteJob | ApplyStatus | DeleteSpokeJob | ReadLive | CheckAgain
Write = CreateJob | DeleteJob | ApplyStatus | DeleteSpokeJob


class Standing(StrEnum):
    """How a SpokeJob counts towards the limits."""

    IDLE = "idle"
    """Wants no place now: suspended, backing off, or blocked."""
    WAITS = "waits"
    """Starts as soon as the limits allow."""
    HOLDS = "holds"
    """Has an attempt, and with it a place."""
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Decision:
    """The actions, which are carried out in order until one fails, and how the SpokeJob counts."""

    standing: Standing
    actions: tuple[Action, ...] = ()

    @property
    def writes(self) -> tuple[Write, ...]:
        """The actions that change something in the cluster."""
        return tuple(action for action in self.actions if isinstance(action, Write))
