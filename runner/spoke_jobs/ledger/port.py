"""Types that those who use a ledger share: why a claim was not granted, and factories of sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID

from spoke_jobs.model import (
    AttemptUsage,
    Failure,
    JobRequest,
    Progress,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class NoRow:
    """There is no such job, the job with this id has another uid, or other code has taken the job."""


@dataclass(frozen=True, slots=True)
class AlreadyFinal:
    """The job has ended."""

    job: JobRequest


@dataclass(frozen=True, slots=True)
class AttemptOver:
    """The attempt has already failed."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Taken:
    """Another process holds a valid claim on the job: try again later."""

    seconds_left: float
    """Seconds until that claim's lease lapses, unless it is renewed."""


@dataclass(frozen=True, slots=True)
class QueueHeld:
    """Another job holds the queue's lock."""


@dataclass(frozen=True, slots=True)
class NotThisAttempt:
    """The job is at a later attempt or run than the requested one."""


ClaimRefusal = NoRow | AlreadyFinal | AttemptOver | Taken | QueueHeld | NotThisAttempt
"""Why a claim was not granted."""


NO_PROGRESS: Mapping[UUID, Progress] = MappingProxyType({})
NO_USAGE: Mapping[UUID, AttemptUsage] = MappingProxyType({})

SessionFactory = Callable[[], "Session"]
"""Creates sessions on the application's database."""
