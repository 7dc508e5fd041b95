"""Rows of the ledger as a person reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from spoke_jobs.model import JobRequest, JobState

_STYLES = {
    JobState.WAITING: "yellow",
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "bold red",
}
_RESULT_LENGTH = 120


def job_table(jobs: Sequence[JobRequest], now: datetime | None = None) -> Table:
    """A table of jobs, in the order given."""
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for heading in ("ID", "TYPE", "QUEUE", "STATE"):
        table.add_column(heading, no_wrap=True)
    for heading in ("%", "TRY"):
        table.add_column(heading, justify="right")
    for heading in ("CAUSE", "TOOK"):
        table.add_column(heading, no_wrap=True)
    table.add_column("RESULT", no_wrap=True, overflow="ellipsis", ratio=1, min_width=12)  # takes what is left
    for job in jobs:
        table.add_row(
            str(job.id),
            Text(_line(job.job_type)),
            Text(_line(job.queue_name) or "-"),
            Text(job.state.value, _STYLES[job.state]),
            str(max(job.status, 0)),
            str(job.attempt),
            Text(_line(job.cause) or "-"),
            _took(job, now or datetime.now(UTC)),
            Text(_result(job)),
        )
    return table


def _took(job: JobRequest, now: datetime) -> str:
    if job.started_at is None:
        return "-"
    seconds = ((job.finished_at or now) - job.started_at).total_seconds()
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _result(job: JobRequest) -> str:
    text = _line(job.result_message if job.result is None else json.dumps(job.result))
    return text if len(text) <= _RESULT_LENGTH else f"{text[: _RESULT_LENGTH - 1]}…"


def _line(text: str) -> str:
    """The text without what would break its row, or the terminal: newlines, tabs, control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
