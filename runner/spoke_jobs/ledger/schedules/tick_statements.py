"""A tick: dispatch the occurrences that are due. Each job is inserted in the transaction that moves its schedule on.

A tick locks its schedules, and skips those that another process has locked. The database's clock decides what is due.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, or_, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from spoke_jobs.errors import InvalidSchedule, SpokeJobsError, UniquenessConflict
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.columns.clock import UTCDateTime, clock_now, read_clock
from spoke_jobs.ledger.columns.lenient import in_utc
from spoke_jobs.ledger.engine import is_locked, reason_of
from spoke_jobs.ledger.lifecycle.inserts import insert_jobs
from spoke_jobs.ledger.lifecycle.retries import cancel
from spoke_jobs.ledger.schedules.schedule_rows import COLUMNS, Origin, ScheduleRow, skip_to_json, to_schedule_row
from spoke_jobs.ledger.sql.expressions import clock_once, known_in_sql, unfinished
from spoke_jobs.ledger.sql.lock_patience import wait_no_more
from spoke_jobs.ledger.tables import job_request, job_schedule
from spoke_jobs.model import JobRequest, NewJob
from spoke_jobs.schedules.occurrences import (
    Decision,
    Skip,
    SkipReason,
    as_one_run,
    decide,
    everything_due,
    not_made,
    without_taken,
)
from spoke_jobs.schedules.schedule import Schedule
from spoke_jobs.schedules.timing import Overlap, Timing

Prepare = Callable[[Schedule, datetime], NewJob]
"""Makes the job of an occurrence. It raises a SpokeJobsError if the schedule's payload or an option is not valid."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ticked:
    """What a tick did."""

    dispatched: list[JobRequest] = field(default_factory=list)
    schedules: int = 0
    """How many schedules were due."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A schedule that is due, and what to do about it."""

    row: ScheduleRow
    schedule: Schedule
    decision: Decision


def seconds_until_due(
    connection: Connection, runner: str, digests: Collection[str], types: Collection[str]
) -> float | None:
    """Return the seconds until a schedule is due, by the database's clock; None if none is. See :func:`tick`."""
    statement = select(func.min(job_schedule.c.next_due_at), clock_now()).where(
        *_active(runner, digests, types), job_schedule.c.next_due_at.is_not(None)
    )
    due, now = connection.execute(statement).one()
    return None if due is None else (due - now).total_seconds()


def tick(
    connection: Connection, runner: str, digests: Collection[str], types: Collection[str], prepare: Prepare, limit: int
) -> Ticked:
    """Dispatch what is due of up to ``limit`` schedules, those that are due longest first.

    :param digests: the definitions that this process serves, of schedules that code declares.
    :param types: the job types that it knows, for schedules that were made at run time.
    """
    statement = (
        select(*COLUMNS)
        .where(*_active(runner, digests, types), job_schedule.c.next_due_at <= clock_once())
        .order_by(job_schedule.c.next_due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = [to_schedule_row(row) for row in connection.execute(statement).mappings()]
    if not rows:
        return Ticked()
    now = read_clock(connection)
    try:
        with connection.begin_nested():
            return Ticked(_dispatch_all(connection, rows, now, prepare), len(rows))
    except Exception as error:
        if _concerns_all(error):
            raise
        if is_locked(error):
            wait_no_more(connection)
    # A schedule whose job the database refuses must not hold up the others.
    dispatched: list[JobRequest] = []
    for row in rows:
        dispatched += _dispatch_alone(connection, row, now, prepare)
    return Ticked(dispatched, len(rows))


def _active(runner: str, digests: Collection[str], types: Collection[str]) -> list[ColumnElement[bool]]:
    """The schedules that are not paused, and whose jobs the process can make."""
    return [
        job_schedule.c.runner == runner,
        job_schedule.c.paused_at.is_(None),
        or_(
            and_(job_schedule.c.origin == Origin.CODE.value, job_schedule.c.digest.in_(list(digests))),
            and_(job_schedule.c.origin == Origin.DYNAMIC.value, known_in_sql(job_schedule.c.job_type, types)),
        ),
    ]


def _dispatch_alone(connection: Connection, row: ScheduleRow, now: datetime, prepare: Prepare) -> list[JobRequest]:
    try:
        with connection.begin_nested():
            return _dispatch_all(connection, [row], now, prepare)
    except Exception as error:
        if _concerns_all(error):
            raise
        if isinstance(error, UniquenessConflict):
            return []  # the next tick tries again
        if is_locked(error):
            wait_no_more(connection)
            return []  # a transaction has locked the job to cancel, or holds the unique key: the next tick tries again
        refused = _refusal_of(error)
    _finish(connection, [_failed(connection, row, now, refused)])
    return []


def _refusal_of(error: Exception) -> str:
    if isinstance(error, DBAPIError):
        return reason_of(error)
    if isinstance(error, SpokeJobsError):
        return str(error)
    logger.error("unexpected error in one schedule", exc_info=error)
    return f"unexpected error: {type(error).__name__}"  # its text may hold values


def _concerns_all(error: Exception) -> bool:
    if not isinstance(error, DBAPIError) or is_locked(error):
        return False
    # A ProgrammingError is a missing privilege, or a table of another release: no due time may be skipped.
    return error.connection_invalidated or isinstance(error, OperationalError | ProgrammingError)


def _dispatch_all(
    connection: Connection, rows: Sequence[ScheduleRow], now: datetime, prepare: Prepare
) -> list[JobRequest]:
    """Dispatch what is due of all the schedules, and move them on."""
    done: list[dict[str, Any]] = []
    readable: list[tuple[ScheduleRow, Schedule]] = []
    for row in rows:
        try:
            readable.append((row, row.schedule()))
        except InvalidSchedule as error:
            done.append(_failed(connection, row, now, str(error)))
    without = {row.name: schedule for row, schedule in readable if schedule.timing.overlap != Overlap.ALLOW}
    held = _unfinished(connection, without)
    due: list[_Due] = []
    for row, schedule in readable:
        assert row.next_due_at is not None
        decision = decide(schedule.timing, row.next_due_at, now, held.get(row.name, ()))
        due.append(_Due(row, schedule, decision))
    taken = _taken(connection, [(item.row.name, when) for item in due for when in item.decision.dispatch])
    due = [replace(item, decision=without_taken(item.decision, taken.get(item.row.name, {}))) for item in due]
    new: list[NewJob] = []
    for item in due:
        try:
            jobs = [prepare(item.schedule, when) for when in item.decision.dispatch]
        except SpokeJobsError as error:
            done.append(_failed(connection, item.row, now, str(error), item.decision))
        else:
            _cancel(connection, item)  # after `prepare`: a job is cancelled only if another one replaces it
            new += jobs
            done.append(_values(item.row, item.schedule.timing, item.decision, now))
    by_name = {values["row_name"]: values for values in done}
    timings = {item.row.name: item.schedule.timing for item in due}
    written = []
    for asked, job in zip(new, insert_jobs(connection, new), strict=True):
        assert asked.schedule is not None
        assert asked.scheduled_for is not None
        values = by_name[asked.schedule]
        if _is_of(job, asked.schedule, asked.scheduled_for):
            values |= {"last_due_at": job.scheduled_for, "last_job_id": job.id}
            written.append(job)
        else:  # another job has its unique key
            skip = Skip(SkipReason.UNIQUE_KEY, asked.scheduled_for, asked.scheduled_for, job.id)
            timing, newest = timings[asked.schedule], values["last_due_at"]
            values["last_skip"] = as_one_run(values["last_skip"], skip, timing, newest)
    _finish(connection, done)
    return written


def _values(row: ScheduleRow, timing: Timing, decision: Decision, now: datetime) -> dict[str, Any]:
    """Return a row's new values, with the skip as a value."""
    skip, last_skip = decision.skip, row.last_skip
    if skip is not None:
        last_skip = as_one_run(last_skip, skip, timing, row.last_due_at)
        logger.info(
            "schedule %s: skipped occurrences from %s to %s: %s%s",
            row.name,
            skip.first.isoformat(),
            skip.last.isoformat(),
            skip.reason,
            f", job {skip.job_id}" if skip.job_id is not None else "",
        )
    return _row_values(row, decision.next_due, last_skip, now)


def _row_values(
    row: ScheduleRow, next_due: datetime | None, skip: Skip | None, now: datetime, error: str = ""
) -> dict[str, Any]:
    return {
        "row_name": row.name,
        "next_due_at": next_due,
        "last_due_at": row.last_due_at,
        "last_job_id": row.last_job_id,
        "last_skip": skip,
        "error": error,
        "updated_at": now,
    }


def _failed(
    connection: Connection, row: ScheduleRow, now: datetime, error: str, decision: Decision | None = None
) -> dict[str, Any]:
    """Return the new values of a row whose jobs can't be made, and report an error that is not known yet."""
    due = row.next_due_at
    assert due is not None
    next_due, skip = None, Skip(SkipReason.INVALID, due, due, detail=error)
    try:
        timing = row.schedule().timing
        next_due = timing.after(now) if decision is None else decision.next_due
        found = not_made(everything_due(timing, due, now) if decision is None else decision, due, error)
        skip = as_one_run(row.last_skip, found, timing, row.last_due_at)
    except Exception:  # noqa: S110 - without a next due time, it is never due again, until somebody changes it
        pass
    if error != row.error:
        logger.error("schedule %s (%s): its job can't be dispatched: %s", row.name, row.job_type, error)
        audit_events.record(connection, Action.FAIL_SCHEDULE, "", job_type=row.job_type, detail=f"{row.name}: {error}")
    return _row_values(row, next_due, skip, now, error)


def _cancel(connection: Connection, item: _Due) -> None:
    if not item.decision.cancel:
        return
    if connection.dialect.name == "postgresql":  # a job's own transaction may have locked its row for long
        connection.execute(text("SET LOCAL lock_timeout = '200ms'"))
    for job_id in item.decision.cancel:
        cancel(connection, job_id, f"schedule {item.row.name}")


def _unfinished(connection: Connection, schedules: Collection[str]) -> dict[str, list[int]]:
    """Read the ids of the schedules' jobs that wait or run."""
    found: dict[str, list[int]] = {}
    if schedules:
        statement = select(job_request.c.schedule, job_request.c.id).where(
            job_request.c.schedule.in_(list(schedules)), unfinished()
        )
        for name, job_id in connection.execute(statement):
            found.setdefault(name, []).append(job_id)
    return found


def _taken(connection: Connection, times: Sequence[tuple[str, datetime]]) -> dict[str, dict[datetime, int]]:
    """Return those of the due times that have a job already, by schedule, each with the job's id."""
    if not times:
        return {}
    moments = [when for _, when in times]
    statement = select(job_request.c.schedule, job_request.c.scheduled_for, job_request.c.id).where(
        job_request.c.schedule.in_({name for name, _ in times}),
        job_request.c.scheduled_for.between(min(moments), max(moments)),
    )
    found: dict[str, dict[datetime, int]] = {}
    for name, when, job_id in connection.execute(statement):
        found.setdefault(name, {})[in_utc(when)] = job_id
    return found


_MOVE = (
    update(job_schedule)
    .where(job_schedule.c.name == bindparam("row_name"))
    .values({name: bindparam(name) for name in ("last_due_at", "last_job_id", "last_skip", "error")})
    .values(next_due_at=bindparam("next_due_at", type_=UTCDateTime), updated_at=bindparam("updated_at"))
)


def _finish(connection: Connection, values: Sequence[dict[str, Any]]) -> None:
    rows = [row | {"last_skip": None if row["last_skip"] is None else skip_to_json(row["last_skip"])} for row in values]
    if rows:
        connection.execute(_MOVE, rows)


def run_now(connection: Connection, row: ScheduleRow, prepare: Prepare, by: str) -> tuple[JobRequest, bool]:
    """Dispatch a job that is due now, besides the occurrences. The caller holds the schedule's lock.

    :returns: the job, and whether it is new. If not, it has the schedule's unique_key.
    :raises SpokeJobsError: if the job can't be made.
    """
    now = read_clock(connection)
    (job,) = insert_jobs(connection, [prepare(row.schedule(), now)])
    if not _is_of(job, row.name, now):
        return job, False
    newest = {"last_due_at": now, "last_job_id": job.id}
    connection.execute(update(job_schedule).where(job_schedule.c.name == row.name).values(newest))
    audit_events.record(connection, Action.RUN_SCHEDULE, by, job_id=job.id, job_type=job.job_type, detail=row.name)
    return job, True


def has_run_newest(connection: Connection, row: ScheduleRow, by: str) -> bool:
    """Whether it is this person who dispatched the schedule's newest job, by :func:`run_now`."""
    if row.last_job_id is None:
        return False
    which = audit_events.EventFilter(job_id=row.last_job_id, action=Action.RUN_SCHEDULE.value)
    return any(event.actor == by for event in audit_events.events(connection, which=which))


def backfill(
    connection: Connection, row: ScheduleRow, times: Sequence[datetime], prepare: Prepare, by: str
) -> list[JobRequest]:
    """Dispatch jobs for these due times, except for times that have a job. The caller holds the schedule's lock.

    :returns: the new jobs. A due time has none if another job has the schedule's unique_key.
    :raises SpokeJobsError: if a job can't be made.
    """
    left = without_job(connection, row.name, times)
    if not left:
        return []
    schedule = row.schedule()
    jobs = insert_jobs(connection, [prepare(schedule, when) for when in left])
    new = [job for when, job in zip(left, jobs, strict=True) if _is_of(job, row.name, when)]
    if new:
        detail = f"{row.name}: {len(new)} from {left[0].isoformat()} to {left[-1].isoformat()}"
        audit_events.record(connection, Action.BACKFILL_SCHEDULE, by, job_type=row.job_type, detail=detail)
    return new


def without_job(connection: Connection, name: str, times: Sequence[datetime]) -> list[datetime]:
    """Return those of a schedule's due times that have no job."""
    taken = _taken(connection, [(name, when) for when in times]).get(name, {})
    return [when for when in times if when not in taken]


def _is_of(job: JobRequest, name: str | None, when: datetime | None) -> bool:
    """Whether a job is that of a due time. Otherwise it is another one, which has its unique key."""
    return (job.schedule, job.scheduled_for) == (name, when)
