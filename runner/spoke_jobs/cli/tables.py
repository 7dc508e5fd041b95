"""Rows of the ledger as a person reads them: the cells pure, the tables by rich."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from spoke_jobs.cli.words import age, line, seconds, until
from spoke_jobs.model import JobRequest, JobState

if TYPE_CHECKING:  # it takes longer to import than many a command to run
    from rich.table import Table

STYLES = {
    JobState.WAITING: "yellow",
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "bold red",
}
HEADINGS = ("ID", "TYPE", "QUEUE", "STATE", "%", "TRY", "CAUSE", "AGE", "TOOK", "RESULT")
_RESULT_LENGTH = 120
_NUMBERS = {"%", "TRY", "AGE", "TOOK"}


def job_cells(job: JobRequest, now: datetime) -> dict[str, str]:
    """A job's cells by their headings."""
    return {
        "ID": str(job.id),
        "TYPE": line(job.job_type),
        "QUEUE": line(job.queue_name) or "-",
        "STATE": job.state.value,
        "%": str(max(job.status, 0)),
        "TRY": str(job.attempt),
        "CAUSE": line(job.cause) or "-",
        "AGE": age(job.created_at, now),
        "TOOK": took(job, now),
        "RESULT": last_words(job, now),
    }


def job_lines(jobs: Sequence[JobRequest], now: datetime) -> list[str]:
    """A line for each job, its cells separated by tabs: for programs."""
    return ["\t".join(job_cells(job, now).values()) for job in jobs]


def job_table(jobs: Sequence[JobRequest], now: datetime | None = None, *, ages: bool = False) -> Table:
    """A table of jobs, in the order given."""
    from rich.table import Table
    from rich.text import Text

    headings = [heading for heading in HEADINGS if heading != "AGE" or ages]
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for heading in headings[:-1]:
        table.add_column(
            heading,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if heading in _NUMBERS else "left",
            max_width=32 if heading in ("TYPE", "QUEUE") else None,
        )
    table.add_column(headings[-1], no_wrap=True, overflow="ellipsis", ratio=1, min_width=12)  # takes what is left
    for job in jobs:
        cells = job_cells(job, now or datetime.now(UTC))
        styles = {"STATE": STYLES[job.state], "CAUSE": "red" if job.state is JobState.FAILED else "", "AGE": "dim"}
        table.add_row(*(Text(cells[heading], styles.get(heading, "")) for heading in headings))
    return table


def took(job: JobRequest, now: datetime) -> str:
    """From its first start to its end, or until now."""
    if job.started_at is None:
        return "-"
    return seconds(max(((job.finished_at or now) - job.started_at).total_seconds(), 0.0))


def last_words(job: JobRequest, now: datetime) -> str:
    """What the job returned or last said, on one line; of a job that is due later, when."""
    text = line(job.result_message if job.result is None else json.dumps(job.result), _RESULT_LENGTH)
    if job.state is JobState.WAITING and job.run_after is not None and job.run_after > now:
        text = f"due {until(job.run_after, now)}{f': {text}' if text else ''}"
    if job.state is JobState.RUNNING and job.cancel_requested_at is not None:
        text = f"asked to stop{f': {text}' if text else ''}"
    return text
