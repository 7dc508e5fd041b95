"""The table of `ls`: format each job's cells, and choose the columns that fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs.contract.wait_text import sentence
from spoke_jobs.explain.job_details import took
from spoke_jobs.explain.words import age, line, until
from spoke_jobs.model import JobRequest, JobState

if TYPE_CHECKING:  # importing rich takes longer than most commands
    from rich.table import Table

STYLES = {
    JobState.BLOCKED: "magenta",
    JobState.WAITING: "yellow",
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "bold red",
}
HEADINGS = ("ID", "TYPE", "QUEUE", "STATE", "%", "TRY", "CAUSE", "AGE", "TOOK", "RESULT")
_RESULT_LENGTH = 120
_RESULT_ROOM = 24
_SHRINKS = {"QUEUE": 12, "TYPE": 18}
"""Columns that may be shortened, each with its smallest width."""
_LEFT_OUT = ("TRY", "TOOK", "QUEUE", "AGE", "%")
"""Columns to leave out on a narrow terminal, in this order."""
NOTHING_HELD: Mapping[int, Wait] = MappingProxyType({})
_NUMBERS = {"%", "TRY", "AGE", "TOOK"}


def job_cells(job: JobRequest, now: datetime, held: Wait | None = None) -> dict[str, str]:
    """Format a job's cells, by heading.

    :param held: the pause or the limit that holds it back.
    """
    return {
        "ID": str(job.id),
        "TYPE": line(job.job_type),
        "QUEUE": line(job.queue_name) or "-",
        "STATE": job.state.value,
        "%": str(max(job.status, 0)),
        "TRY": str(job.attempt),
        "CAUSE": held.code if held is not None else line(job.cause) or "-",
        "AGE": age(job.created_at, now),
        "TOOK": took(job, now),
        "RESULT": line(sentence(held), 2 * _RESULT_LENGTH) if held is not None else result_text(job, now),
    }


def job_lines(jobs: Sequence[JobRequest], now: datetime, held: Mapping[int, Wait] = NOTHING_HELD) -> list[str]:
    """Format a line for each job, with cells separated by tabs, for programs.

    :param held: the pauses and the limits that hold jobs back, by the jobs' ids.
    """
    return ["\t".join(job_cells(job, now, held.get(job.id)).values()) for job in jobs]


def fitting(rows: Sequence[Mapping[str, str]], headings: Sequence[str], width: int) -> dict[str, int]:
    """Choose the columns that fit a terminal, with their widths. The last column takes the rest."""
    needed = {heading: max(len(heading), *(len(row[heading]) for row in rows), 1) for heading in headings[:-1]}
    needed[headings[-1]] = _RESULT_ROOM

    def surplus() -> int:
        return sum(needed.values()) + 2 * (len(needed) - 1) - width

    for may_leave_out in (False, True):
        for heading in _LEFT_OUT if may_leave_out else ():
            if surplus() > 0:
                needed.pop(heading, None)
        for heading, least in _SHRINKS.items():
            if surplus() > 0 and needed.get(heading, 0) > least:
                needed[heading] = max(least, needed[heading] - surplus())
    return needed


def job_table(
    jobs: Sequence[JobRequest],
    now: datetime | None = None,
    held: Mapping[int, Wait] = NOTHING_HELD,
    *,
    ages: bool = False,
    width: int = 200,
) -> Table:
    """Make a table of jobs, in the order given, with the columns that fit. For ``held`` see :func:`job_lines`."""
    from rich.table import Table
    from rich.text import Text

    rows = [job_cells(job, now or datetime.now(UTC), held.get(job.id)) for job in jobs]
    columns = fitting(rows, [heading for heading in HEADINGS if heading != "AGE" or ages], width)
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True, padding=(0, 2, 0, 0))
    for heading, room in columns.items():
        justify: Literal["left", "right"] = "right" if heading in _NUMBERS else "left"
        if heading == HEADINGS[-1]:
            table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=1, min_width=12)
        else:
            table.add_column(heading, no_wrap=True, overflow="ellipsis", justify=justify, max_width=room)
    for job, cells in zip(jobs, rows, strict=True):
        styles = {"STATE": STYLES[job.state], "CAUSE": "red" if job.state is JobState.FAILED else "", "AGE": "dim"}
        table.add_row(*(Text(cells[heading], styles.get(heading, "")) for heading in columns))
    return table


def result_text(job: JobRequest, now: datetime) -> str:
    """Format the job's result or last message on one line. First comes that it is suspended, or when it is due."""
    text = line(job.result_message if job.result is None else json.dumps(job.result), _RESULT_LENGTH)
    if job.state is JobState.WAITING and (due := job.due_later(now)) is not None:
        text = f"due {until(due, now)}{f': {text}' if text else ''}"
    if job.suspended_at is not None and not job.state.final:
        text = f"suspended{f': {text}' if text else ''}"
    if job.state is JobState.RUNNING and job.cancel_requested_at is not None:
        text = f"asked to stop{f': {text}' if text else ''}"
    return text
