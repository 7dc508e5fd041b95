"""What is said of schedules: their JSON, and what is wrong with those that dispatch no job."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Self

from spoke_jobs.errors import InvalidSchedule
from spoke_jobs.explain.shape import AnyJson, Shape
from spoke_jobs.explain.words import clock, day_and_time, line, seconds
from spoke_jobs.ledger.schedules.schedule_rows import Origin, ScheduleRow
from spoke_jobs.ledger.schedules.schedule_states import ScheduleState, state_of
from spoke_jobs.schedules.occurrences import Skip, SkipReason, upcoming
from spoke_jobs.schedules.schedule import Schedule
from spoke_jobs.schedules.timing import Misfire

ORPHANED = "no process that runs can dispatch its jobs: its code is gone, or no process runs"
"""What is wrong with an orphaned schedule."""


class ScheduleSkip(Shape):
    """Due times that dispatched no job, from the first to the last."""

    reason: SkipReason
    """`Missed`, `Overlap`, `UniqueKey`, `Taken` or `Invalid`."""
    first: datetime
    last: datetime
    job_id: int | None
    """The unfinished job that was the reason."""
    detail: str
    """What is wrong with the payload or an option."""


class ScheduleEntry(Shape):
    """A schedule."""

    name: str
    state: ScheduleState
    """`active`, `paused`, `orphaned`, `late`, `failing` or `over`."""
    origin: Origin
    """`code`, or `dynamic` if somebody added it at run time."""
    job_type: str
    runner: str
    when: str
    """When it is due, in words."""
    timezone: str
    next: tuple[datetime, ...]
    """The next due times; empty if it is never due again."""
    paused_by: str
    """Who paused it; empty if it is not paused."""
    last_due_at: datetime | None
    """The due time of its newest job."""
    last_job_id: int | None
    last_skip: ScheduleSkip | None
    error: str
    """Why the job of the last due time could not be made; empty if it was."""
    definition: AnyJson
    """Timing, payload and options, as the ledger stores them."""

    @classmethod
    def of(cls, row: ScheduleRow, now: datetime, following: int) -> Self:
        """Convert a row of the ledger."""
        schedule = readable_schedule(row)
        return cls(
            name=row.name,
            state=state_of(row, now),
            origin=row.origin,
            job_type=row.job_type,
            runner=row.runner,
            when=schedule.timing.describe() if schedule else "",
            timezone=schedule.timing.zone.key if schedule else "",
            next=tuple(next_due_times(row, schedule, following)),
            paused_by=row.paused_by,
            last_due_at=row.last_due_at,
            last_job_id=row.last_job_id,
            last_skip=ScheduleSkip.model_validate(row.last_skip) if row.last_skip else None,
            error=row.error,
            definition=row.definition,
        )


class Schedules(Shape):
    """The output of `schedules ls`."""

    schedules: tuple[ScheduleEntry, ...]

    @classmethod
    def of(cls, rows: Sequence[ScheduleRow], now: datetime, following: int) -> Self:
        """Convert rows of the ledger."""
        return cls(schedules=tuple(ScheduleEntry.of(row, now, following) for row in rows))


class ScheduleProblem(Shape):
    """A schedule with due times that dispatched no job, or that dispatches none."""

    name: str
    job_type: str
    reason: str
    """`orphaned` or `late`, which are states of schedules, or the reason of its last skip, such as `Missed`."""
    text: str
    """What is wrong. It may change between releases."""
    advice: str
    """What to do."""
    skip: ScheduleSkip | None
    """The due times; null for a state."""


def schedule_problems(rows: Sequence[ScheduleRow], now: datetime, period_seconds: float) -> Iterator[ScheduleProblem]:
    """Explain the due times of the last seconds that dispatched no job, and the schedules that dispatch none."""
    for row in rows:
        state, skip = state_of(row, now), row.last_skip
        recent = skip if skip is not None and (now - skip.last).total_seconds() <= period_seconds else None
        name, about = shlex.quote(line(row.name)), {"name": row.name, "job_type": row.job_type, "skip": None}
        if state is ScheduleState.ORPHANED:
            yield ScheduleProblem(**about, reason=state.value, text=ORPHANED, advice=orphan_advice(row))
        elif state is ScheduleState.LATE:
            text = "it is due, and no process has dispatched its job"
            advice = "The log of workers, or of sync, says why they can't."
            yield ScheduleProblem(**about, reason=state.value, text=text, advice=advice)
        elif recent is not None:
            yield ScheduleProblem(
                **about | {"skip": ScheduleSkip.model_validate(recent)},
                reason=recent.reason.value,
                text=f"no job for {skip_text(recent, now, with_date=True)}{_why_not_later(row, recent)}",
                advice=_ACTIONS[recent.reason].format(
                    name=name,
                    job=recent.job_id,
                    first=recent.first.astimezone(UTC).isoformat(),
                    last=recent.last.astimezone(UTC).isoformat(),
                ),
            )


def orphan_advice(row: ScheduleRow) -> str:
    """Say what to do about an orphaned schedule."""
    name = shlex.quote(line(row.name))
    return f"Start a process that has it. If its code is gone for good: `spoke-jobs schedules rm {name}`."


_ACTIONS = {
    SkipReason.MISSED: "If needed: `spoke-jobs schedules backfill {name} --from {first} --to {last}`.",
    SkipReason.OVERLAP: "Make the job quicker or the schedule rarer; `overlap` says what happens.",
    SkipReason.UNIQUE_KEY: "Wait for the end of the job that has the key.",
    SkipReason.TAKEN: "If `backfill` has not dispatched it, find out what wrote its row: `spoke-jobs show {job}`.",
    SkipReason.INVALID: (
        "Correct the schedule or the job, then `spoke-jobs schedules backfill {name} --from {first} --to {last}`."
    ),
}


def skip_text(skip: Skip, now: datetime | None, *, with_date: bool = False) -> str:
    """Explain why due times dispatched no job.

    :param now: the time in the reader's zone; None for programs, which read ISO 8601, in UTC.
    :param with_date: whether to name the day and the zone, also of times of today.
    """
    first, last = (_time(at, now, with_date=with_date) for at in (skip.first, skip.last))
    times = first if first == last else f"{first} to {last}"
    job = f"job {skip.job_id}" if skip.job_id is not None else "an earlier job"
    reasons = {
        SkipReason.MISSED: "no process that dispatches it (a worker, or sync) ran at that time",
        SkipReason.OVERLAP: f"{job} was unfinished" if skip.job_id is not None else "several were due at once",
        SkipReason.UNIQUE_KEY: f"{job} had its unique key",
        SkipReason.TAKEN: f"{job} was dispatched for it before",
        SkipReason.INVALID: line(skip.detail),
    }
    return f"{times}: {reasons[skip.reason]}"


def _time(at: datetime, now: datetime | None, *, with_date: bool) -> str:
    if now is None:
        return at.astimezone(UTC).isoformat()
    return day_and_time(at, now) if with_date else clock(at, now)


def _why_not_later(row: ScheduleRow, skip: Skip) -> str:
    """Say why no process has dispatched a missed job since."""
    schedule = readable_schedule(row)
    if skip.reason is not SkipReason.MISSED or schedule is None:
        return ""
    timing = schedule.timing
    match timing.misfire:
        case Misfire.SKIP:
            return f", and its misfire policy skips what is more than {seconds(timing.misfire_grace_seconds)} late"
        case Misfire.ALL:
            return f", and its misfire policy skips what is more than {seconds(timing.misfire_window_seconds)} late"
        case _:
            return ", and its misfire policy makes up for the last missed time only"


def next_due_times(row: ScheduleRow, schedule: Schedule | None, following: int) -> list[datetime]:
    """Return the next due times; none if the definition can't be read."""
    return upcoming(schedule.timing, row.next_due_at, following) if schedule else []


def readable_schedule(row: ScheduleRow) -> Schedule | None:
    """Return the schedule; None if its definition can't be read."""
    try:
        return row.schedule()
    except InvalidSchedule:
        return None
