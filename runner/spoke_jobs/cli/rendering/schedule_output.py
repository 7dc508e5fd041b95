"""The output of `schedules`: texts for people, lines with tabs for programs, and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, tzinfo

from spoke_jobs.explain.schedules_json import ScheduleProblem, next_due_times, readable_schedule, skip_text
from spoke_jobs.explain.words import line, until
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow
from spoke_jobs.ledger.schedules.schedule_states import state_of
from spoke_jobs.schedules.schedule import Schedule


def schedule_lines(rows: Sequence[ScheduleRow], now: datetime, following: int) -> list[str]:
    """Format a line for each schedule, with cells separated by tabs, for programs. Times are ISO 8601, in UTC."""
    return ["\t".join(_fields(row, now, following)) for row in rows]


def _fields(row: ScheduleRow, now: datetime, following: int) -> list[str]:
    schedule = readable_schedule(row)
    return [
        line(row.name),
        state_of(row, now).value,
        line(row.job_type),
        schedule.timing.describe() if schedule else "-",
        ",".join(when.isoformat() for when in next_due_times(row, schedule, following)) or "-",
        row.last_due_at.isoformat() if row.last_due_at else "-",
        str(row.last_job_id) if row.last_job_id is not None else "-",
        skip_text(row.last_skip, None) if row.last_skip else "-",
        line(row.error) or "-",
    ]


def schedule_texts(
    rows: Sequence[ScheduleRow], now: datetime, following: int, zone: tzinfo | None = None
) -> Iterator[str]:
    """Describe schedules for people, with due times in the schedule's zone and in the reader's."""
    for row in rows:
        yield f"{line(row.name)}  {state_of(row, now)}{f' by {line(row.paused_by)}' if row.paused_by else ''}"
        width = max(len(name) for name, _ in _FACTS)
        for name, fact in _FACTS:
            for number, value in enumerate(fact(row, readable_schedule(row), now, following, zone)):
                yield f"  {name if number == 0 else '':<{width}}  {value}"


def _due_texts(
    row: ScheduleRow, schedule: Schedule | None, now: datetime, following: int, zone: tzinfo | None
) -> list[str]:
    times = next_due_times(row, schedule, following)
    words = [until(when, now) for when in times]
    width = max(map(len, words), default=0)
    return [f"{word:<{width}}  {_both(when, schedule, zone)}" for word, when in zip(words, times, strict=True)]


_Fact = Callable[[ScheduleRow, Schedule | None, datetime, int, tzinfo | None], list[str]]
_FACTS: tuple[tuple[str, _Fact], ...] = (
    ("job", lambda row, *_: [line(row.job_type)]),
    ("when", lambda row, schedule, *_: [schedule.timing.describe()] if schedule else ["its definition can't be read"]),
    ("next", _due_texts),
    (
        "last",
        lambda row, schedule, now, _following, zone: (
            [f"{_both(row.last_due_at, schedule, zone)}: job {row.last_job_id}"] if row.last_due_at else []
        ),
    ),
    (
        "skipped",
        lambda row, _schedule, now, _following, zone: (
            [skip_text(row.last_skip, now.astimezone(zone))] if row.last_skip else []
        ),
    ),
    ("error", lambda row, *_: [line(row.error)] if row.error else []),
)
"""What `schedules ls` says about each, on lines of its own."""


def problem_texts(problems: Sequence[ScheduleProblem]) -> Iterator[str]:
    """Format for a person: each schedule, with the action below it."""
    for problem in problems:
        yield _titled(problem)
        yield f"  → {problem.advice}"


def problem_lines(problems: Sequence[ScheduleProblem], now: datetime) -> Iterator[str]:
    """Format for programs, with the columns of a group of jobs: the state is `schedule`, and there is one of each."""
    for problem in problems:
        skip = problem.skip
        age = str(int(max((now - skip.first).total_seconds(), 0))) if skip is not None else ""
        yield "\t".join(("schedule", problem.reason, "", "1", age, _titled(problem), problem.advice))


def _titled(problem: ScheduleProblem) -> str:
    return f"schedule {line(problem.name)} ({line(problem.job_type)}): {problem.text}"


def _both(when: datetime, schedule: Schedule | None, zone: tzinfo | None) -> str:
    local = f"{when.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}"
    if schedule is None:
        return local
    own = f"{when.astimezone(schedule.timing.zone):%a %Y-%m-%d %H:%M:%S %Z}"
    return own if own == local else f"{own} = {local}"
