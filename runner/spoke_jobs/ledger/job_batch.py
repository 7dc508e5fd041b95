"""A batch: jobs that are counted together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A row of ``job_batch``. The table's columns follow from these fields, as with :class:`JobRequest`."""

    id: int
    name: str
    on_failed: str = "fail"
    """What follows if one of its jobs fails: ``fail`` fails the job ``then``, ``run`` runs it."""
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    then_id: int | None = None
    """The job that follows."""
    created_at: datetime
    closed_at: datetime | None = None
    """Since when it may finish: no more jobs are to come from outside."""
    finished_at: datetime | None = None

    def __str__(self) -> str:
        return f"batch {self.id} ({self.name}), {self.succeeded + self.failed:,} of {self.total:,} jobs ended"

    @property
    def state(self) -> str:
        """Return `open`, `closed` or `finished`."""
        if self.finished_at is not None:
            return "finished"
        return "open" if self.closed_at is None else "closed"

    @property
    def over(self) -> bool:
        """Whether it is closed and all its jobs have ended."""
        return self.closed_at is not None and self.succeeded + self.failed == self.total


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """Which batches to select. None: any."""

    name: str | None = None
    """A name, or a pattern in which ``*`` stands for any characters."""
    since: datetime | None = None
    """The earliest time at which it was opened."""
    until: datetime | None = None
    """The time before which it was opened."""
    id: int | None = None
    then_id: int | None = None
    """Only the batch that this job follows."""
    before: int | None = None
    """Only batches with lower ids."""
    after: int | None = None
    """Only batches with higher ids."""
    organizations: frozenset[int] | None = None
    """Only batches with jobs, all of which are of these organizations."""


ANY_BATCH = BatchFilter()
