"""Backfill a schedule: dispatch the jobs of a period's due times. The command line and the dashboard share it.

Neither `misfire` nor `overlap` applies. A due time whose job is still in the ledger gets no other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from itertools import islice

from sqlalchemy import Connection, Engine

from spoke_jobs.ledger.columns.clock import read_clock
from spoke_jobs.ledger.schedules import tick_statements
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow
from spoke_jobs.ledger.schedules.tick_statements import Prepare

BACKFILL_LIMIT = 10_000
"""The most due times of a period."""
_PART = 500
_FIRST = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
_INSTANT = timedelta(microseconds=1)


class PeriodProblem(Enum):
    """Why a period can't be backfilled."""

    FUTURE = auto()
    """Its end is in the future."""
    REVERSED = auto()
    """Its end is before its beginning."""
    TOO_MANY = auto()
    """It has more due times than :data:`BACKFILL_LIMIT`."""


@dataclass(frozen=True, slots=True)
class Period:
    """The due times of a period, in order."""

    times: tuple[datetime, ...]
    left: tuple[datetime, ...]
    """Those that have no job."""


def read_period(connection: Connection, row: ScheduleRow, since: datetime, until: datetime) -> Period | PeriodProblem:
    """Find the due times of a period, with its first and its last moment.

    :raises InvalidSchedule: if the schedule's definition can't be read.
    """
    timing, now = row.schedule().timing, read_clock(connection)
    if until > now:
        return PeriodProblem.FUTURE
    if until < since:
        return PeriodProblem.REVERSED
    times = tuple(islice(timing.between(max(since, _FIRST) - _INSTANT, until), BACKFILL_LIMIT + 1))
    if len(times) > BACKFILL_LIMIT:
        return PeriodProblem.TOO_MANY
    left = (when for part in _parts(times) for when in tick_statements.without_job(connection, row.name, part))
    return Period(times, tuple(left))


def dispatch_parts(
    engine: Engine,
    locked: Callable[[Connection], ScheduleRow],
    times: Sequence[datetime],
    prepare: Prepare,
    by: str,
) -> Iterator[int]:
    """Dispatch the jobs of due times that have none, in transactions of their own. Yield how many each has dispatched.

    A due time has none after that if another job has the schedule's unique_key.

    :param locked: reads the schedule's row, and locks it. It raises if there is none any more.
    :raises SpokeJobsError: if a job can't be made. The transactions before it stay.
    """
    for part in _parts(times):
        with engine.begin() as connection:
            jobs = len(tick_statements.backfill(connection, locked(connection), part, prepare, by))
        yield jobs


def _parts(times: Sequence[datetime]) -> Iterator[Sequence[datetime]]:
    for begin in range(0, len(times), _PART):
        yield times[begin : begin + _PART]
