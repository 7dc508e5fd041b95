"""The states of schedules, which `schedules ls` shows and metrics count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, select

from spoke_jobs.ledger.columns.clock import clock_now
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow, is_orphaned
from spoke_jobs.ledger.tables import job_schedule

LATE_SECONDS = 60.0
"""A schedule that has been due for this long is late: processes look at the schedules every second."""


class ScheduleState(StrEnum):
    """Whether a schedule dispatches jobs."""

    ACTIVE = "active"
    PAUSED = "paused"
    ORPHANED = "orphaned"
    """No process that runs can dispatch its jobs: the code that declares it, or its job, is gone, or nothing runs."""
    LATE = "late"
    """It is due, and a process that runs could dispatch its job, but none has."""
    FAILING = "failing"
    """The job of the last due time could not be made."""
    OVER = "over"
    """It is never due again."""


@dataclass(frozen=True, slots=True)
class ScheduleCounts:
    """Schedules by state."""

    states: Mapping[ScheduleState, int]
    oldest_due_seconds: float
    """For how long the oldest due schedule has been due. Paused and orphaned ones do not count."""


def state_of(row: ScheduleRow, now: datetime) -> ScheduleState:
    """Say whether a schedule dispatches jobs."""
    return _state(row.paused_at, row.served_at, row.next_due_at, row.error, now)


def _state(
    paused_at: datetime | None, served_at: datetime | None, next_due_at: datetime | None, error: str, now: datetime
) -> ScheduleState:
    if paused_at is not None:
        return ScheduleState.PAUSED
    if is_orphaned(served_at, now):
        return ScheduleState.ORPHANED
    if next_due_at is not None and now - next_due_at > timedelta(seconds=LATE_SECONDS):
        return ScheduleState.LATE
    if error:
        return ScheduleState.FAILING
    return ScheduleState.ACTIVE if next_due_at is not None else ScheduleState.OVER


def count_schedules(connection: Connection, runner: str) -> ScheduleCounts:
    """Count the runner's schedules. The definitions, which may be large, are not read."""
    table = job_schedule.c
    columns = (table.paused_at, table.served_at, table.next_due_at, table.error, clock_now())
    states = dict.fromkeys(ScheduleState, 0)
    oldest = 0.0
    for paused_at, served_at, next_due_at, error, now in connection.execute(
        select(*columns).where(table.runner == runner)
    ):
        state = _state(paused_at, served_at, next_due_at, error, now)
        states[state] += 1
        if next_due_at is not None and state not in (ScheduleState.PAUSED, ScheduleState.ORPHANED):
            oldest = max(oldest, (now - next_due_at).total_seconds())
    return ScheduleCounts(states, oldest)
