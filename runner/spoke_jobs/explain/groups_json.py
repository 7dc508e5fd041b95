"""The JSON of `why` without an id."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from spoke_jobs.explain.groups import Group
from spoke_jobs.explain.schedules_json import ScheduleProblem
from spoke_jobs.explain.shape import Shape


class ReasonGroup(Shape):
    """The jobs that wait or have failed for one reason."""

    state: str
    """waiting, blocked or failed."""
    reason: str
    """Of waiting jobs, a code (docs/reference/cli.md lists them), or the operator's reason or cause
    (docs/reference/causes.md): `cancel --reason` takes it. Of failed jobs, the cause."""
    fingerprint: str
    """The type and the place of the exception: `retry --failed --fingerprint` takes it. Empty if there was none."""
    text: str
    """What the jobs wait for, or how they failed. It may change between releases."""
    advice: str
    """What to do; empty if nothing needs to be done."""
    count: int
    oldest_at: datetime | None
    """Since when the oldest waits, or when it failed. Of jobs that start later, when the first one does."""
    newest_at: datetime | None
    """When the newest failed; null for waiting jobs."""
    job_id: int | None
    """The first of the waiting jobs, or the newest of the failed ones."""
    message: str
    """What that job says of its failure, if its last attempt failed; else empty."""
    name: str
    """The reason to wait or the cause as docs/reference/causes.md names it."""

    @classmethod
    def of(cls, group: Group) -> Self:
        """Convert a group."""
        return cls.model_validate(group)


class ReasonGroups(Shape):
    """The output of `why` without an id."""

    period_seconds: float
    """How long ago a job may have failed."""
    groups: tuple[ReasonGroup, ...]
    """First the waiting jobs, then the failed ones, in each case the largest group first."""
    schedules: tuple[ScheduleProblem, ...]
    """Schedules with due times in the period that dispatched no job, and those that dispatch none."""
    incomplete: tuple[str, ...]
    """What could not be read in the cluster, as sentences. Empty if nothing was missing, or nothing had to be read."""

    @classmethod
    def of(
        cls,
        groups: Sequence[Group],
        period_seconds: float,
        schedules: Sequence[ScheduleProblem],
        incomplete: Sequence[str] = (),
    ) -> Self:
        """Convert groups and schedules."""
        return cls(
            period_seconds=period_seconds,
            groups=tuple(ReasonGroup.of(group) for group in groups),
            schedules=tuple(schedules),
            incomplete=tuple(incomplete),
        )
