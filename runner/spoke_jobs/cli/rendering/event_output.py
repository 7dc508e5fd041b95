"""The output of `events`: a table for people, and lines with tabs for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from spoke_jobs.cli.printing import new_table
from spoke_jobs.explain.words import age, line
from spoke_jobs.ledger.audit.audit_events import Event

if TYPE_CHECKING:  # importing rich takes longer than most commands
    from rich.table import Table

HEADINGS = ("AGE", "BY", "ACTION", "JOB", "TYPE", "DETAIL")


def event_lines(events: Sequence[Event]) -> list[str]:
    """Format a line for each event, with cells separated by tabs: the time first, for programs."""
    return ["\t".join([event.at.isoformat(), *_cells(event)]) for event in events]


def event_table(events: Sequence[Event], now: datetime) -> Table:
    """Make a table of events, in the order given."""
    from rich.text import Text

    table = new_table(HEADINGS)
    for event in events:
        table.add_row(Text(age(event.at, now), "dim"), *map(Text, _cells(event)))
    return table


def _cells(event: Event) -> list[str]:
    return [
        line(event.actor) or "-",
        line(event.action),
        str(event.job_id) if event.job_id is not None else "-",
        line(event.job_type) or "-",
        line(event.detail) or "-",
    ]
