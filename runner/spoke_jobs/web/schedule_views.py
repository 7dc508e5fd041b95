"""What the page *Schedules* shows. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.explain.schedules_json import next_due_times, readable_schedule, schedule_problems, skip_text
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.reading.dashboard_queries import SCHEDULES_LOOKED_THROUGH, SchedulePage
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow
from spoke_jobs.ledger.schedules.schedule_states import state_of
from spoke_jobs.web.job_search import address, encoded
from spoke_jobs.web.view_parts import When
from spoke_jobs.web.viewer import JobAction, Viewer, shown_schedule

NEXT = 3
"""How many due times are shown."""
_PROBLEM_SECONDS = 86_400.0
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
    skipped: str
    error: str
    problem: str
    advice: str
    key: str
    """Its name, encoded for forms."""
    newest: str
    """See :func:`last_of`."""
    can_pause: bool
    can_resume: bool
    can_run: bool


@dataclass(frozen=True, slots=True)
class ScheduleList:
    """The page."""

    items: tuple[ScheduleItem, ...]
    first: str
    """The address of the first page; empty on it."""
    following: str
    """The address of the next page; empty if there is none."""
    note: str
    """Why there may be more schedules than those of all pages; else empty."""


def schedule_list(
    page: SchedulePage, after: str, visible: Collection[int], viewer: Viewer, *, runs: bool
) -> ScheduleList:
    """Describe schedules.

    :param after: the name after which the page begins; empty for the first page.
    :param visible: the newest jobs of the schedules, as far as the viewer may see them.
    :param runs: whether the process can make their jobs.
    """
    rows = [shown_schedule(row, viewer) for row in page.rows]
    goes_on = page.more or (rows and not page.looked_through)  # the next look begins at the last one of these
    return ScheduleList(
        tuple(_item(row, page.now, visible, viewer, runs=runs) for row in rows),
        "/schedules" if after else "",
        address("/schedules", after=encoded(rows[-1].name)) if goes_on else "",
        "" if page.more or page.looked_through else _NOT_ALL,
    )


def last_of(row: ScheduleRow) -> str:
    """Return the due time of its newest job, for the form that runs it: a form that is sent again has an older one."""
    return row.last_due_at.isoformat() if row.last_due_at is not None else ""


def _item(row: ScheduleRow, now: datetime, visible: Collection[int], viewer: Viewer, *, runs: bool) -> ScheduleItem:
    schedule = readable_schedule(row)
    zone = schedule.timing.zone if schedule is not None else None

    def due(when: datetime) -> DueTime:
        local = f"{when.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}" if zone is not None and zone.key != "UTC" else ""
        return DueTime(When.planned(when, now), local)

    problem = next(schedule_problems([row], now, _PROBLEM_SECONDS), None)
    may = JobAction.SCHEDULE in viewer.actions
    times = next_due_times(row, schedule, NEXT) if row.paused_at is None else []
    return ScheduleItem(
        line(row.name),
        state_of(row, now).value,
        line(row.paused_by),
        row.origin.value,
        line(row.job_type),
        address("/jobs", type=row.job_type),
        schedule.timing.describe() if schedule is not None else "its definition can't be read",
        tuple(due(when) for when in times),
        due(row.last_due_at) if row.last_due_at is not None else None,
        row.last_job_id if row.last_job_id in visible else None,
        skip_text(row.last_skip) if row.last_skip is not None else "",
        line(row.error),
        problem.text if problem is not None else "",
        line(problem.advice) if problem is not None and viewer.sees_all else "",
        encoded(row.name),
        last_of(row),
        can_pause=may and row.paused_at is None,
        can_resume=may and row.paused_at is not None and schedule is not None,
        can_run=may and runs and schedule is not None,
    )
