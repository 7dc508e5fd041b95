"""What `watch` shows: progress bars on a terminal, otherwise a line for each change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from spoke_jobs.cli.rendering.job_table import STYLES, result_text
from spoke_jobs.explain.job_details import took
from spoke_jobs.explain.words import line
from spoke_jobs.model import JobRequest, JobState

if TYPE_CHECKING:
    from rich.table import Table

_BAR_WIDTH = 24
_WIDE_ENOUGH_FOR_TOOK = 80
_FIRST = {JobState.RUNNING: 0, JobState.FAILED: 1, JobState.WAITING: 2, JobState.BLOCKED: 3, JobState.SUCCEEDED: 4}


@dataclass(frozen=True, slots=True)
class ProgressView:
    """The jobs to show, in the order of their ids, and a summary of all jobs."""

    shown: tuple[JobRequest, ...]
    summary: str


def progress_view(jobs: Sequence[JobRequest], room: int) -> ProgressView:
    """Choose the jobs that fit on `room` lines: running and failed ones before waiting and succeeded ones."""
    chosen = sorted(jobs, key=lambda job: (_FIRST[job.state], job.id))[: max(room, 1)]
    counts = {state: sum(job.state is state for job in jobs) for state in JobState}
    said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    left_out = len(jobs) - len(chosen)
    more = f"; {left_out} not shown" if left_out else ""
    return ProgressView(tuple(sorted(chosen, key=lambda job: job.id)), f"{said}{more}")


def changes(before: Sequence[JobRequest], after: Sequence[JobRequest]) -> list[JobRequest]:
    """Return the jobs that changed between two reads."""
    known = {job.id: _visible(job) for job in before}
    return [job for job in after if known.get(job.id) != _visible(job)]


def change_line(job: JobRequest, now: datetime) -> str:
    """Format a changed job as one line, its fields separated by tabs."""
    cells = (
        f"{now:%Y-%m-%dT%H:%M:%SZ}",
        str(job.id),
        line(job.job_type),
        job.state.value,
        str(max(job.status, 0)),
        str(job.attempt),
        line(job.cause) or "-",
        result_text(job, now),
    )
    return "\t".join(cells)


def render(shown: ProgressView, now: datetime, width: int) -> Table:
    """Make a table with a progress bar for each job, for a terminal of this width."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    with_took = width >= _WIDE_ENOUGH_FOR_TOOK
    fixed = max((len(str(job.id)) for job in shown.shown), default=1) + 5 + 9 + 9 * with_took + 10
    room = max(width - fixed, 30)  # for the type, the bar and the text
    bar = min(_BAR_WIDTH, room // 3)
    table = Table(box=None, pad_edge=False, show_header=False, expand=True, padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(room // 3, 10))
    table.add_column(width=bar)
    table.add_column(justify="right", width=5, no_wrap=True)
    table.add_column(no_wrap=True, width=len(JobState.SUCCEEDED))
    if with_took:
        table.add_column(justify="right", no_wrap=True, min_width=7)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1, min_width=10)
    for job in shown.shown:
        style, percent = STYLES[job.state], max(job.status, 0)
        table.add_row(
            Text(str(job.id), "bold"),
            Text(line(job.job_type)),
            ProgressBar(100, percent, width=bar, complete_style=style, finished_style="green"),
            Text(f"{percent} %", "dim" if job.state in (JobState.WAITING, JobState.BLOCKED) else ""),
            Text(job.state.value, style),
            *([Text(took(job, now), "dim")] if with_took else []),
            Text(_words(job, now)),
        )
    table.caption = Text(shown.summary, "dim")
    table.caption_justify = "left"
    return table


def _words(job: JobRequest, now: datetime) -> str:
    words = result_text(job, now)
    return f"{job.cause}: {words}" if job.cause and job.state is not JobState.RUNNING else words


def _visible(job: JobRequest) -> tuple[object, ...]:
    return job.state, job.status, job.attempt, job.run, job.result_message, job.cancel_requested_at
