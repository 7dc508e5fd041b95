"""The output of `mutes ls`: a table for people, and lines with tabs for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from spoke_jobs.cli.printing import new_table
from spoke_jobs.explain.words import line, until
from spoke_jobs.ledger.notices.notice_values import Mute

if TYPE_CHECKING:  # importing rich takes longer than most commands
    from rich.table import Table

HEADINGS = ("ID", "ABOUT", "ENDS", "REASON", "BY")


def mute_lines(mutes: Sequence[Mute]) -> list[str]:
    """Format a line for each mute, with cells separated by tabs, for programs."""
    return ["\t".join([*_cells(mute, mute.until.isoformat()), mute.muted_at.isoformat()]) for mute in mutes]


def mute_table(mutes: Sequence[Mute], now: datetime) -> Table:
    """Make a table of mutes, in the order given."""
    from rich.text import Text

    table = new_table(HEADINGS)
    for mute in mutes:
        table.add_row(*map(Text, _cells(mute, until(mute.until, now))))
    return table


def _cells(mute: Mute, ends: str) -> list[str]:
    return [str(mute.id), line(mute.about()), ends, line(mute.reason), line(mute.muted_by) or "-"]
