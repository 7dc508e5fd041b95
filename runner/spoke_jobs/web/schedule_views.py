"""What the page *Schedules* shows. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from types import MappingProxyType
from zoneinfo import ZoneInfo

from spoke_jobs.contract.limit_model import applying
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.explain.limit_texts import pause_text
from spoke_jobs.explain.schedules_json import (
    ORPHANED,
    next_due_times,
    orphan_advice,
    readable_schedule,
    schedule_problems,
    skip_text,
)
from spoke_jobs.explain.words import count, line
from spoke_jobs.ledger.reading.dashboard_queries import SCHEDULES_LOOKED_THROUGH, SchedulePage
from spoke_jobs.ledger.schedules.backfills import BACKFILL_LIMIT, Period, PeriodProblem
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow
from spoke_jobs.ledger.schedules.schedule_states import ScheduleState, state_of
from spoke_jobs.limits.job_limit import LimitPause
from spoke_jobs.schedules.occurrences import SkipReason
from spoke_jobs.schedules.timing import instants
from spoke_jobs.web.job_search import address, encoded
from spoke_jobs.web.view_parts import NO_TROUBLES, ScheduleTrouble, ScheduleTroubles, When, limit_id
from spoke_jobs.web.viewer import JobAction, Viewer, shown_schedule

NEXT = 3
"""How many due times are shown."""
ENDS = 3
"""How many of the first and of the last occurrences of a period are shown."""
TROUBLES_SHOWN = 20
"""How many schedules with a problem are listed."""
NO_PAUSES: Mapping[str, LimitPause] = MappingProxyType({})
_PROBLEM_SECONDS = 86_400.0
_FIRST_YEAR = 1970
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([+-]\d\d:\d\d)?", re.ASCII)
_NOT_ALL = (
    f"Only {SCHEDULES_LOOKED_THROUGH:,} schedules were looked through for those that you may see. There may be more: "
    "ask somebody who may see all."
)


@dataclass(frozen=True, slots=True)
class DueTime:
    """A due time."""

    when: When
    local: str
    """In the schedule's time zone; empty if that is UTC."""
    for_reader: str
    """In the reader's time zone; empty if that is the schedule's, or UTC."""


@dataclass(frozen=True, slots=True)
class ScheduleItem:
    """A schedule."""

    name: str
    state: str
    paused_by: str
    origin: str
    job_type: str
    jobs: str
    """The address of the list of jobs of its type."""
    when: str
    following: tuple[DueTime, ...]
    last: DueTime | None
    last_job_id: int | None
    """None if the viewer may not see it, or if it was pruned."""
    last_state: str
    """The state of that job; empty if there is none."""
    held: str
    """Which pause holds its jobs back; empty if none does, or if the viewer may not see it."""
    held_path: str
    """The address of that pause's row."""
    skipped: str
    error: str
    problem: str
    advice: str
    backfill: str
    """The address of the preview of a backfill of the skipped due times; empty if that is not what may be done about
    the problem."""
    backfill_from: str
    """What the field of a backfill's first moment begins with, in the schedule's time zone; may be empty."""
    backfill_to: str
    key: str
    """Its name, encoded for forms."""
    newest: str
    """See :func:`last_of`."""
    can_pause: bool
    can_resume: bool
    can_run: bool
    """Also for past due times, as a backfill."""
    zone: str
    """The time zone of the fields of a backfill."""


@dataclass(frozen=True, slots=True)
class ScheduleList:
    """The page."""

    items: tuple[ScheduleItem, ...]
    troubles: ScheduleTroubles
    """Those of all pages. Only on the first page."""
    first: str
    """The address of the first page; empty on it."""
    alone: bool
    """Whether it shows one schedule only."""
    following: str
    """The address of the next page; empty if there is none."""
    note: str
    """Why there may be more schedules than those of all pages; else empty."""
    can_run: bool
    """Whether one of them can be run."""


def schedule_list(
    page: SchedulePage,
    after: str,
    states: Mapping[int, str],
    viewer: Viewer,
    *,
    runs: bool,
    alone: bool = False,
    troubles: ScheduleTroubles = NO_TROUBLES,
    pauses: Mapping[str, LimitPause] = NO_PAUSES,
) -> ScheduleList:
    """Describe schedules.

    :param after: the name after which the page begins; empty for the first page.
    :param states: the states of the newest jobs of the schedules, as far as the viewer may see them.
    :param runs: whether the process can make their jobs.
    :param alone: whether the page is about one schedule only.
    :param pauses: what is paused, by scope. None for a viewer who does not see all jobs.
    """
    rows = [shown_schedule(row, viewer) for row in page.rows]
    goes_on = page.more or (rows and not page.looked_through)  # the next look begins at the last one of these
    items = tuple(_item(row, page.now, states, viewer, pauses, runs=runs) for row in rows)
    return ScheduleList(
        items,
        troubles,
        "/schedules" if after or alone else "",
        alone,
        address("/schedules", after=rows[-1].name) if goes_on else "",
        "" if page.more or page.looked_through else _NOT_ALL,
        any(item.can_run for item in items),
    )


def schedule_troubles(pages: Iterable[SchedulePage], viewer: Viewer) -> ScheduleTroubles:
    """Find the schedules with a problem.

    :param pages: the schedules that may have one.
    """
    found: list[ScheduleTrouble] = []
    more = False
    for page in pages:
        for row in page.rows:
            shown = shown_schedule(row, viewer)
            if (problem := _problem(shown, page.now, viewer)) is not None:
                found.append(ScheduleTrouble(line(row.name), address("/schedules", name=row.name), *problem))
        more = page.more or len(found) > TROUBLES_SHOWN
        if len(found) > TROUBLES_SHOWN:
            break
    return ScheduleTroubles(tuple(found[:TROUBLES_SHOWN]), more)


def _problem(row: ScheduleRow, now: datetime, viewer: Viewer) -> tuple[str, str] | None:
    """Say what is wrong with a schedule, and what to do; None if nothing is known to be wrong."""
    problem = next(schedule_problems([row], now, _PROBLEM_SECONDS), None)
    if problem is not None:
        return problem.text, line(problem.advice) if viewer.sees_all else ""
    if state_of(row, now) is ScheduleState.FAILING:  # for longer than skips are problems, as of a weekly schedule
        return f"the job of its last due time could not be made: {line(row.error)}", ""
    return None


def last_of(row: ScheduleRow) -> str:
    """Return the due time of its newest job, for the form that runs it: a form that is sent again has an older one."""
    return row.last_due_at.isoformat() if row.last_due_at is not None else ""


def _item(
    row: ScheduleRow,
    now: datetime,
    states: Mapping[int, str],
    viewer: Viewer,
    pauses: Mapping[str, LimitPause],
    *,
    runs: bool,
) -> ScheduleItem:
    schedule = readable_schedule(row)
    zone = schedule.timing.zone if schedule is not None else None

    def due(when: datetime) -> DueTime:
        return _due(when, zone, now)

    problem, advice = _problem(row, now, viewer) or ("", "")
    skip = row.last_skip
    may = JobAction.SCHEDULE in viewer.actions
    can_run = may and runs and schedule is not None
    times = next_due_times(row, schedule, NEXT) if row.paused_at is None else []
    lacks = skip is not None and skip.reason in (SkipReason.MISSED, SkipReason.INVALID)
    lacking = (skip.first, skip.last) if skip is not None and lacks and problem and can_run else None
    scope, pause = _pause_of(row, pauses) or ("", None)
    return ScheduleItem(
        line(row.name),
        state_of(row, now).value,
        line(row.paused_by),
        row.origin.value,
        line(row.job_type),
        address("/jobs", schedule=row.name),
        schedule.timing.describe() if schedule is not None else "its definition can't be read",
        tuple(due(when) for when in times),
        due(row.last_due_at) if row.last_due_at is not None else None,
        row.last_job_id if row.last_job_id in states else None,
        states.get(row.last_job_id or 0, ""),
        f"{line(scope)} is paused: {pause_text(pause, now)}" if pause is not None else "",
        f"/queues#{limit_id(scope)}" if scope else "",
        skip_text(row.last_skip, now) if row.last_skip is not None else "",
        line(row.error),
        problem,
        advice,
        _preview_path(row, *lacking) if lacking else "",
        _field(lacking[0], zone) if lacking else "",
        _field(lacking[1], zone, timedelta(seconds=59)) if lacking else "",
        encoded(row.name),
        last_of(row),
        can_pause=may and row.paused_at is None,
        can_resume=may and row.paused_at is not None and schedule is not None,
        can_run=can_run,
        zone=zone.key if zone is not None else "",
    )


def _pause_of(row: ScheduleRow, pauses: Mapping[str, LimitPause]) -> tuple[str, LimitPause] | None:
    """Find the narrowest pause that holds the schedule's jobs back, of those of a type, an organization or all.

    Their queue may follow from the declaration of the type, which is not known here.
    """
    subject = Subject(row.job_type, "", row.organization_id)
    return next(((scope, pause) for (_, scope, _), pause in applying(pauses, subject)), None)


def _preview_path(row: ScheduleRow, first: datetime, last: datetime) -> str:
    since, until = (when.astimezone(UTC).isoformat() for when in (first, last))
    return address("/schedules/backfill", **{"schedule": encoded(row.name), "from": since, "to": until})


def _field(when: datetime, zone: ZoneInfo | None, up: timedelta = timedelta(0)) -> str:
    """Write a time for a field of a form, to the minute; empty if the field could not tell it from another one.

    :param up: what is added before the seconds are cut off.
    """
    if zone is None:
        return ""
    local = (when + up).astimezone(zone).replace(second=0, microsecond=0, tzinfo=None)
    return f"{local:%Y-%m-%dT%H:%M}" if len(instants(local, zone)) == 1 else ""


def _due(when: datetime, zone: ZoneInfo | None, now: datetime) -> DueTime:
    def at(place: tzinfo | None, *others: str) -> str:
        return "" if str(place) in others else f"{when.astimezone(place):%a %Y-%m-%d %H:%M:%S %Z}"

    return DueTime(When.planned(when, now), at(zone or UTC, "UTC"), at(now.tzinfo, "UTC", str(zone)))


# Backfills


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An occurrence of a period."""

    due: DueTime
    has_job: bool


@dataclass(frozen=True, slots=True)
class BackfillPreview:
    """What a backfill would dispatch."""

    name: str
    jobs: str
    """The address of the list of jobs of its type."""
    job_type: str
    since: DueTime
    until: DueTime
    number: str
    """How many occurrences the period has."""
    had: str
    """How many of them have a job."""
    most: str
    """The most that a period may have."""
    first: tuple[Occurrence, ...]
    between: str
    """How many are not shown; empty if all are."""
    last: tuple[Occurrence, ...]
    notes: tuple[str, ...]
    button: str
    """Empty if there is nothing to dispatch."""
    fields: tuple[tuple[str, str], ...]
    """The hidden fields of the form: names and values. They are ASCII."""


def backfill_preview(
    row: ScheduleRow, since: datetime, until: datetime, period: Period, now: datetime, viewer: Viewer
) -> BackfillPreview:
    """Describe what a backfill would dispatch."""
    schedule = row.schedule()
    zone, times, left = schedule.timing.zone, period.times, frozenset(period.left)

    def occurrences(some: Sequence[datetime]) -> tuple[Occurrence, ...]:
        return tuple(Occurrence(_due(when, zone, now), when not in left) for when in some)

    hidden = len(times) - 2 * ENDS
    notes = []
    if schedule.options.get("unique_key"):
        notes.append(
            "Its jobs have a unique key. While a job with this key is unfinished, no other one is dispatched, so fewer "
            "jobs than due times may be."
        )
    if row.orphaned(now):
        notes.append(orphan_text(row, viewer))
    return BackfillPreview(
        line(row.name),
        address("/jobs", schedule=row.name),
        line(row.job_type),
        _due(since, zone, now),
        _due(until, zone, now),
        count(len(times), "occurrence"),
        f"{len(times) - len(left):,}",
        f"{BACKFILL_LIMIT:,}",
        occurrences(times[:ENDS] if hidden > 0 else times),
        f"{hidden:,} more" if hidden > 0 else "",
        occurrences(times[-ENDS:] if hidden > 0 else ()),
        tuple(notes),
        f"Backfill {count(len(left), 'occurrence')}" if left else "",
        (
            ("schedule", encoded(row.name)),
            ("from", since.astimezone(UTC).isoformat()),
            ("to", until.astimezone(UTC).isoformat()),
            ("times", fingerprint(times)),
            ("chosen", chosen_of(period)),
        ),
    )


def orphan_text(row: ScheduleRow, viewer: Viewer) -> str:
    """Say that a schedule is orphaned, and what to do about it."""
    advice = line(orphan_advice(row)) if viewer.sees_all else "Ask somebody who deploys the application."
    return f"The schedule is orphaned: {ORPHANED}. {advice}"


def fingerprint(times: Sequence[datetime]) -> str:
    """Return a text by which a form tells whether a period still has these due times: a schedule may change."""
    return hashlib.sha256(" ".join(when.astimezone(UTC).isoformat() for when in times).encode()).hexdigest()[:32]


def chosen_of(period: Period) -> str:
    """Write which due times of the period have no job: a hexadecimal number with a bit for each due time.

    So the form dispatches what its page shows, also if a job of the period is pruned since.
    """
    left = frozenset(period.left)
    return f"{sum(1 << place for place, when in enumerate(period.times) if when in left):x}"


def chosen(text: str, times: Sequence[datetime]) -> list[datetime] | None:
    """Read what :func:`chosen_of` wrote; None if it is not of these due times."""
    if not re.fullmatch(f"[0-9a-f]{{1,{BACKFILL_LIMIT // 4}}}", text):
        return None
    bits = int(text, 16)
    return None if bits >> len(times) else [when for place, when in enumerate(times) if bits >> place & 1]


def read_time(text: str, label: str, zone: ZoneInfo) -> datetime:
    """Read a time of a form: in the schedule's time zone, unless it has an offset.

    :raises ValueError: if it is none, or clocks show it twice or never. The text says what to do.
    """
    try:
        when = datetime.fromisoformat(text) if _TIME.fullmatch(text) else None
        found = [] if when is None else instants(when, zone) if when.tzinfo is None else [when.astimezone(UTC)]
    except (ValueError, OverflowError):  # OverflowError: in UTC, it is before the year 1 or after 9999
        when, found = None, []
    if when is None or when.year < _FIRST_YEAR:
        raise ValueError(
            f"{label} is {line(text, 40)!r}, which is no time from {_FIRST_YEAR} on. Give a date and a time of day, as "
            "in 2026-03-01T08:00."
        )
    if len(found) == 1:
        return found[0]
    given = f"{label} is {when:%Y-%m-%d %H:%M}, which the clocks in {zone.key}"
    if not found:
        around = " or ".join(f"{_at_fold(when, zone, fold):%H:%M}" for fold in (1, 0))
        raise ValueError(f"{given} skip. Give an earlier or a later time, for example {around}.")
    offsets = " or ".join(_at_fold(when, zone, fold).isoformat(timespec="minutes") for fold in (0, 1))
    raise ValueError(
        f"{given} show twice. Give an earlier or a later time, or use `spoke-jobs schedules backfill` with {offsets}."
    )


def _at_fold(local: datetime, zone: ZoneInfo, fold: int) -> datetime:
    """Return what the clocks show at a time of the offset before (0) or after (1) their change."""
    return local.replace(tzinfo=zone, fold=fold).astimezone(UTC).astimezone(zone)


def period_problem(problem: PeriodProblem, since: datetime, until: datetime, zone: tzinfo) -> str:
    """Say what is wrong with a period, and what to do."""
    first, last = (f"{when.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}" for when in (since, until))
    return {
        PeriodProblem.FUTURE: f"To is {last}, in the future. Give a time that has passed.",
        PeriodProblem.REVERSED: f"From is {first}, after To, {last}. Give an earlier From or a later To.",
        PeriodProblem.TOO_MANY: (
            f"From {first} to {last} there are more than {BACKFILL_LIMIT:,} occurrences. Give a shorter period, and "
            "then the next one."
        ),
    }[problem]
