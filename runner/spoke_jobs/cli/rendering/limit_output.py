"""The output of `limits ls`: a table for people, and lines with tabs for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from spoke_jobs.explain.limit_texts import LIMIT_HEADINGS, limit_cells
from spoke_jobs.ledger.reading.queries import LimitState

if TYPE_CHECKING:  # importing rich takes longer than most commands
    from rich.table import Table


def limit_lines(limits: Sequence[LimitState], now: datetime) -> list[str]:
    """Format a line for each limit, with cells separated by tabs, for programs."""
    return ["\t".join(limit_cells(item, now)) for item in limits]


def limit_table(limits: Sequence[LimitState], now: datetime) -> Table:
    """Make a table of limits, in the order given."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in LIMIT_HEADINGS:
        table.add_column(heading, no_wrap=heading != "PAUSED", overflow="fold")
    for item in limits:
        cells = zip(LIMIT_HEADINGS, limit_cells(item, now), strict=True)
        table.add_row(*(Text(cell, "yellow" if heading == "PAUSED" else "") for heading, cell in cells))
    return table
