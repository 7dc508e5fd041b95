"""The rows of `job_schedule`: read them, and write what code declares and what people change.

Each change locks its row, so that it and a tick follow each other. The caller commits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, cast, delete, false, or_, select, type_coerce, update

from spoke_jobs.errors import InvalidSchedule
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.columns.clock import clock_after, clock_now, read_clock
from spoke_jobs.ledger.columns.column_types import StoredJson
from spoke_jobs.ledger.columns.lenient import read_iso_time, read_number, read_text
from spoke_jobs.ledger.sql.expressions import known_in_sql, upsert
from spoke_jobs.ledger.tables import job_schedule
from spoke_jobs.schedules.occurrences import Skip, SkipReason
from spoke_jobs.schedules.schedule import Schedule
from spoke_jobs.shared.clean_text import storable

STALE_SECONDS = 180.0
"""A schedule that no process has served for this long is orphaned."""
_COMPARED = 20
"""The most organizations whose numbers the database looks for in definitions."""
SERVED_SECONDS = 30.0
"""How often a process records that it serves a schedule."""


class Origin(StrEnum):
    """Where a schedule was made."""

    CODE = "code"
    """In the application's code. Its processes write the row again when the code changes."""
    DYNAMIC = "dynamic"
    """At run time."""


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A row of ``job_schedule``."""

    name: str
    runner: str
    origin: Origin
    job_type: str
    definition: Any
    """See :meth:`spoke_jobs.schedules.schedule.Schedule.to_json`."""
    digest: str
    next_due_at: datetime | None
    served_at: datetime | None
    """When a process that can dispatch its jobs was last seen."""
    paused_at: datetime | None
    paused_by: str
    last_due_at: datetime | None
    """The due time of its newest job."""
    last_job_id: int | None
    last_skip: Skip | None
    error: str
    """Why the job of the newest occurrence could not be made."""
    created_at: datetime
    updated_at: datetime

    def schedule(self) -> Schedule:
        """Read the definition.

        :raises InvalidSchedule: if it can't be read.
        """
        return Schedule.from_json(self.name, self.definition)

    @property
    def organization_id(self) -> int | None:
        """The organization of its jobs; None if they have none, or if the definition can't be read."""
        options = self.definition.get("options") if isinstance(self.definition, Mapping) else None
        found = options.get("organization_id") if isinstance(options, Mapping) else None
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def orphaned(self, now: datetime) -> bool:
        """Whether no process that runs can dispatch its jobs."""
        return is_orphaned(self.served_at, now)


def is_orphaned(served_at: datetime | None, now: datetime) -> bool:
    """Whether no process that runs can dispatch the jobs of a schedule that was served then."""
    return served_at is None or now - served_at > timedelta(seconds=STALE_SECONDS)


COLUMNS = tuple(job_schedule.c[name] for name in ScheduleRow.__slots__)
SMALL_DEFINITION_BYTES = 10_000
"""The largest definition, as JSON, that lists have with the payload. With many large ones, they could fill the memory.
"""
_SMALL_DEFINITION = type_coerce(job_schedule.c.definition, StoredJson(SMALL_DEFINITION_BYTES)).label("definition")
_MANY_COLUMNS = tuple(_SMALL_DEFINITION if column.name == "definition" else column for column in COLUMNS)
_WITHOUT_PAYLOAD = ("jobType", "timing", "payloadVersion", "options")
"""The parts of a definition that hold no values of its payload."""


def to_schedule_row(row: Mapping[Any, Any]) -> ScheduleRow:
    """Read a row with :data:`COLUMNS`."""
    values: dict[str, Any] = dict(row)
    return ScheduleRow(**values | {"origin": Origin(values["origin"]), "last_skip": skip_of(values["last_skip"])})


def without_payload(definition: Any) -> dict[str, Any]:
    """Return the definition without its payload, which one of another release may hold anywhere."""
    known = definition if isinstance(definition, Mapping) else {}
    return {name: known[name] for name in _WITHOUT_PAYLOAD if name in known}


def _read_many(connection: Connection, statement: Select[Any]) -> list[ScheduleRow]:
    """Read rows with :data:`_MANY_COLUMNS`: the larger definitions one by one, without their payloads."""
    found = [to_schedule_row(row) for row in connection.execute(statement).mappings()]
    for index, row in enumerate(found):
        if row.definition is None:
            whole = connection.scalar(select(job_schedule.c.definition).where(job_schedule.c.name == row.name))
            found[index] = replace(row, definition=None if whole is None else without_payload(whole))
    return found


def skip_to_json(skip: Skip) -> dict[str, Any]:
    """Return a skip as the row keeps it."""
    return {
        "reason": skip.reason.value,
        "first": skip.first.isoformat(),
        "last": skip.last.isoformat(),
        "jobId": skip.job_id,
        "detail": storable(skip.detail),
    }


def skip_of(value: Any) -> Skip | None:
    """Read a skip; None if there is none, or another release wrote it in another form."""
    try:
        first, last = (read_iso_time(value[name]) for name in ("first", "last"))
        job_id, detail = read_number(value.get("jobId")), storable(read_text(value.get("detail")) or "")
        return Skip(SkipReason(value["reason"]), first, last, job_id, detail)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def read_schedules(connection: Connection, name: str | None = None, *, lock: bool = False) -> list[ScheduleRow]:
    """Read all schedules, or the one with that name, by name."""
    statement = select(*COLUMNS).order_by(job_schedule.c.name)
    if name is not None:
        statement = statement.where(job_schedule.c.name == name)
    if lock:
        statement = statement.with_for_update()
    return [to_schedule_row(row) for row in connection.execute(statement).mappings()]


def schedules_after(
    connection: Connection,
    name: str,
    limit: int,
    *,
    until: str | None = None,
    organizations: Collection[int] | None = None,
) -> list[ScheduleRow]:
    """Read the next schedules after a name, by name, the larger ones without their payloads.

    :param until: only schedules up to this name.
    :param organizations: only schedules whose jobs may be of one of these, as far as the database can tell.
    """
    statement = select(*_MANY_COLUMNS).where(job_schedule.c.name > name).order_by(job_schedule.c.name).limit(limit)
    if until is not None:
        statement = statement.where(job_schedule.c.name <= until)
    return _read_many(connection, statement.where(*_perhaps_of(organizations)))


def name_after(connection: Connection, name: str, number: int) -> str | None:
    """Return the name of the schedule so many places after a name; None if there are not as many."""
    later = select(job_schedule.c.name).where(job_schedule.c.name > name).order_by(job_schedule.c.name)
    found: str | None = connection.scalar(later.offset(number - 1).limit(1))
    return found


def _perhaps_of(organizations: Collection[int] | None) -> Iterator[ColumnElement[bool]]:
    """Leave out schedules of which no job is of one of these organizations, without reading their definitions.

    It looks for the option in the text, as this library writes JSON. A number that begins like the organization's
    passes, too, and so does a payload with such a field.
    """
    if organizations is not None:
        names = [f'"organization_id": {number}' for number in sorted(organizations)]
        text = cast(job_schedule.c.definition, Text)
        some = names if len(names) <= _COMPARED else ['"organization_id"']
        yield or_(false(), *(text.contains(name, autoescape=True) for name in some))


def perhaps_troubled(
    connection: Connection, name: str, limit: int, organizations: Collection[int] | None
) -> list[ScheduleRow]:
    """Read the next schedules after a name that may have a problem, by name, the larger ones without their payloads.

    They are due, or no process has served them of late, or they have left out due times, or could not make a job.

    :param organizations: see :func:`schedules_after`.
    """
    table = job_schedule.c
    unserved = table.served_at.is_(None) | (table.served_at < clock_after(-STALE_SECONDS))
    troubled = unserved | (table.next_due_at < clock_now()) | (table.error != "") | table.last_skip.is_not(None)
    found = select(*_MANY_COLUMNS).where(table.name > name, troubled, *_perhaps_of(organizations))
    return _read_many(connection, found.order_by(table.name).limit(limit))


def declare(
    connection: Connection, runner: str, schedules: Sequence[Schedule], types: Collection[str], by: str, *, begins: bool
) -> set[str]:
    """Write the schedules that code declares, and record that this process serves them and those of the types.

    A row with another definition belongs to processes of another release. It is changed when a process begins, which
    mostly is a deployment, and later only once no other process serves it. So two releases do not take turns.

    :param types: the job types that the process knows.
    :param begins: whether the process begins.
    :return: the digests of the schedules that the process serves.
    """
    statement = select(*COLUMNS).where(job_schedule.c.name.in_([schedule.name for schedule in schedules]))
    statement = statement.order_by(job_schedule.c.name).with_for_update()
    rows = (
        {row.name: row for row in map(to_schedule_row, connection.execute(statement).mappings())} if schedules else {}
    )
    now = read_clock(connection)
    served = set()
    for schedule in schedules:
        row = rows.get(schedule.name)
        if row is None or (row.digest, row.origin, row.runner) != (schedule.digest, Origin.CODE, runner):
            if row is not None and not begins and not row.orphaned(now):
                continue
            _write(connection, runner, schedule, Origin.CODE, by, row, now)
        served.add(schedule.digest)
    mark_served(connection, runner, served, types)
    return served


def mark_served(connection: Connection, runner: str, digests: Collection[str], types: Collection[str]) -> None:
    """Record that a process serves these schedules, unless that was recorded just now."""
    for served in (
        (job_schedule.c.origin == Origin.CODE.value) & job_schedule.c.digest.in_(list(digests)),
        (job_schedule.c.origin == Origin.DYNAMIC.value) & known_in_sql(job_schedule.c.job_type, types),
    ):
        stale = job_schedule.c.served_at.is_(None) | (job_schedule.c.served_at < clock_after(-SERVED_SECONDS))
        found = select(job_schedule.c.name).where(job_schedule.c.runner == runner, served, stale)
        names = list(connection.scalars(found.order_by(job_schedule.c.name).with_for_update(skip_locked=True)))
        if names:
            connection.execute(update(job_schedule).where(job_schedule.c.name.in_(names)).values(served_at=clock_now()))


def put(
    connection: Connection, runner: str, schedule: Schedule, by: str, *, replace: bool = False, declared: bool = False
) -> ScheduleRow:
    """Write a schedule that somebody makes at run time.

    :param replace: change an existing one.
    :param declared: whether the process's code declares one of that name, which no process may have stored yet.
    :raises InvalidSchedule: if there is one, and it may not be replaced, or code declares it.
    """
    (row,) = read_schedules(connection, schedule.name, lock=True) or (None,)
    if declared or (row is not None and row.origin is Origin.CODE):
        or_pause = ", or pause it" if row is not None else ""
        raise InvalidSchedule(f"the schedule {schedule.name!r} is declared in code: change it there{or_pause}")
    if row is not None and not replace:
        raise InvalidSchedule(f"there is a schedule {schedule.name!r} already: replace it, or choose another name")
    if not _write(connection, runner, schedule, Origin.DYNAMIC, by, row, read_clock(connection)):
        return put(connection, runner, schedule, by, replace=replace, declared=declared)  # there is one now
    return _one(connection, schedule.name)


def remove(connection: Connection, name: str, by: str) -> bool:
    """Delete a schedule; its jobs stay. Return False if there is none.

    :raises InvalidSchedule: if code declares it, and a process that runs has this code: it would come back.
    """
    rows = read_schedules(connection, name, lock=True)
    if not rows:
        return False
    if rows[0].origin is Origin.CODE and not rows[0].orphaned(read_clock(connection)):
        raise InvalidSchedule(
            f"the schedule {name!r} is declared in code that runs: remove it there, then here, or pause it"
        )
    connection.execute(delete(job_schedule).where(job_schedule.c.name == name))
    _record(connection, Action.REMOVE_SCHEDULE, rows[0], by)
    return True


def pause(connection: Connection, name: str, by: str) -> ScheduleRow | None:
    """Let no occurrence be due until somebody resumes the schedule. Return None if there is none."""
    for row in read_schedules(connection, name, lock=True):
        if row.paused_at is None:
            _set(connection, name, {"paused_at": clock_now(), "paused_by": by})
            _record(connection, Action.PAUSE_SCHEDULE, row, by)
        return _one(connection, name)
    return None


def resume(connection: Connection, name: str, by: str) -> ScheduleRow | None:
    """Go on with the first occurrence after now. Those in between are left out; `backfill` dispatches them."""
    for row in read_schedules(connection, name, lock=True):
        if row.paused_at is not None:
            following = row.schedule().timing.after(read_clock(connection))
            _set(connection, name, {"paused_at": None, "paused_by": "", "next_due_at": following})
            _record(connection, Action.RESUME_SCHEDULE, row, by)
        return _one(connection, name)
    return None


def _write(
    connection: Connection,
    runner: str,
    schedule: Schedule,
    origin: Origin,
    by: str,
    row: ScheduleRow | None,
    now: datetime,
) -> bool:
    """Write a schedule. Return False if another transaction has just written one of that name."""
    definition = schedule.to_json()
    values: dict[str, Any] = {
        "runner": runner,
        "origin": origin.value,
        "job_type": schedule.job_type,
        "definition": definition,
        "digest": schedule.digest,
        "served_at": now,
        "error": "",
        "updated_at": now,
    }
    # A schedule that is never due again may be one whose timing another process could not read.
    if row is None or row.next_due_at is None or not _same_times(row.definition, definition):
        values["next_due_at"] = schedule.timing.after(now)
    if row is None:
        new = upsert(connection, job_schedule).values(name=schedule.name, created_at=now, **values)
        if connection.scalar(new.on_conflict_do_nothing().returning(job_schedule.c.name)) is None:
            return False
    else:
        _set(connection, schedule.name, values)
    action = Action.ADD_SCHEDULE if row is None else Action.CHANGE_SCHEDULE
    audit_events.record(
        connection, action, by, job_type=schedule.job_type, detail=f"{schedule.name}: {schedule.timing.describe()}"
    )
    return True


def _same_times(stored: Any, definition: Mapping[str, Any]) -> bool:
    return isinstance(stored, Mapping) and stored.get("timing") == definition["timing"]


def _set(connection: Connection, name: str, values: Mapping[str, Any]) -> None:
    changed = {"updated_at": clock_now()} | dict(values)
    connection.execute(update(job_schedule).where(job_schedule.c.name == name).values(changed))


def _one(connection: Connection, name: str) -> ScheduleRow:
    (row,) = read_schedules(connection, name)
    return row


def _record(connection: Connection, action: Action, row: ScheduleRow, by: str) -> None:
    audit_events.record(connection, action, by, job_type=row.job_type, detail=row.name)
