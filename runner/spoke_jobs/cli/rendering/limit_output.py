"""The output of `limits ls`: a table for people, and lines with tabs for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from spoke_jobs.explain.words import line, until
from spoke_jobs.ledger.reading.queries import LimitState
from spoke_jobs.limits.job_limit import NO_BOUNDS, JobLimit

if TYPE_CHECKING:  # importing rich takes longer than most commands
    from rich.table import Table

HEADINGS = ("SCOPE", "RUNNING", "MAX", "RATE", "FROM", "PAUSED")


def limit_lines(limits: Sequence[LimitState], now: datetime) -> list[str]:
    """Format a line for each limit, with cells separated by tabs, for programs."""
    return ["\t".join(_cells(item, now)) for item in limits]


def limit_table(limits: Sequence[LimitState], now: datetime) -> Table:
    """Make a table of limits, in the order given."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=heading != "PAUSED", overflow="fold")
    for item in limits:
        cells = zip(HEADINGS, _cells(item, now), strict=True)
        table.add_row(*(Text(cell, "yellow" if heading == "PAUSED" else "") for heading, cell in cells))
    return table


def _source(limit: JobLimit) -> str:
    if limit.default is None and limit.bounds == NO_BOUNDS:
        return "-"  # it is only paused
    changed = limit.default is not None and limit.default != limit.bounds
    return f"{limit.source} (default: {limit.default})" if changed else limit.source.value


def _cells(item: LimitState, now: datetime) -> list[str]:
    limit = item.limit
    bounds = limit.bounds
    pause = limit.paused_at(now)
    return [
        line(str(limit.scope)),
        str(item.running),
        "-" if bounds.max_running is None else str(bounds.max_running),
        "-" if bounds.rate is None else str(bounds.rate),
        _source(limit),
        "-"
        if pause is None
        else f"{line(pause.reason)}"
        f" (by {line(pause.by) or 'unknown'}{f', ends {until(pause.until, now)}' if pause.until else ''})",
    ]
