"""The output of `stats`: a table for people, and lines with tabs for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from spoke_jobs.explain.words import age, count, line, seconds
from spoke_jobs.ledger.reading.statistics import Durations, Statistics, StatisticsGroup

if TYPE_CHECKING:  # importing rich takes longer than most commands
    from rich.console import RenderableType

_BLOCKED = ("BLOCKED", "LONGEST")
"""Columns that are left out if no job is blocked."""
HEADINGS = (
    "WAITING",
    "OLDEST",
    *_BLOCKED,
    "RUNNING",
    "SUCCEEDED",
    "FAILED",
    "WAIT",
    "WAIT95",
    "TOOK",
    "TOOK95",
)
_STYLES = {"WAITING": "yellow", "RUNNING": "cyan", "SUCCEEDED": "green", "FAILED": "bold red"}
_LEFT_OUT = ("LONGEST", "WAIT95", "OLDEST", "TOOK95", "WAIT", "TOOK")
"""Columns to leave out on a narrow terminal, in this order."""
_NAME_WIDTH = 30
_LEAST_NAME_WIDTH = 16


def statistics_lines(found: Statistics) -> list[str]:
    """Format a line for each group, with cells separated by tabs. Durations are in seconds."""
    return ["\t".join([line(group.name) or "-", *_plain_cells(group, found)]) for group in found.groups]


def statistics_table(found: Statistics, by: str, limit: int, width: int) -> RenderableType:
    """Make the summary and the table of the first ``limit`` groups, with the columns that fit the width."""
    from rich.console import Group as Lines
    from rich.table import Table
    from rich.text import Text

    rows = [dict(zip(HEADINGS, _cells(group, found), strict=True)) for group in found.groups[:limit]]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    headings, room = _fitting(rows, width)
    table.add_column(by.upper(), no_wrap=True, overflow="ellipsis", max_width=min(room, _NAME_WIDTH))
    for heading in headings:
        table.add_column(heading, no_wrap=True, justify="right")
    for group, cells in zip(found.groups, rows, strict=False):
        table.add_row(
            Text(line(group.name) or "-"),
            *(
                Text(cells[heading], "dim" if cells[heading] in ("0", "-") else _STYLES.get(heading, ""))
                for heading in headings
            ),
        )
    parts: list[RenderableType] = [Text(summary(found))]
    if found.groups:
        parts += [Text(""), table]
    if (more := len(found.groups) - limit) > 0:
        parts.append(Text(f"and {more:,} more: --limit shows them", style="dim"))
    return Lines(*parts)


def _fitting(rows: Sequence[Mapping[str, str]], width: int) -> tuple[list[str], int]:
    """Choose the columns that fit, and the width that they leave for the names."""
    used = [heading for heading in HEADINGS if heading not in _BLOCKED or any(row["BLOCKED"] != "0" for row in rows)]
    needed = {heading: 2 + max([len(heading), *(len(row[heading]) for row in rows)]) for heading in used}
    for heading in _LEFT_OUT:
        if sum(needed.values()) > width - _LEAST_NAME_WIDTH:
            needed.pop(heading, None)
    return list(needed), max(width - sum(needed.values()), _LEAST_NAME_WIDTH)


def summary(found: Statistics) -> str:
    """Say in one line what waits, runs and has ended."""
    total = found.total
    oldest = f" (the oldest has been due for {age(total.oldest_due_at, found.now)})" if total.oldest_due_at else ""
    blocked = f", {total.blocked:,} blocked" if total.blocked else ""
    rate = total.ended / found.period_seconds * 60
    return (
        f"{count(total.waiting, 'job')} waiting{oldest}{blocked}, {total.running:,} running; "
        f"{total.succeeded:,} succeeded and {total.failed:,} failed within {seconds(found.period_seconds)} "
        f"({rate:,.1f} a minute)"
    )


def _cells(group: StatisticsGroup, found: Statistics) -> list[str]:
    def durations(of: Durations | None) -> list[str]:
        return [seconds(round(of.p50, 1)), seconds(round(of.p95, 1))] if of is not None else ["-", "-"]

    return [
        f"{group.waiting:,}",
        age(group.oldest_due_at, found.now) if group.oldest_due_at else "-",
        f"{group.blocked:,}",
        age(group.oldest_blocked_at, found.now) if group.oldest_blocked_at else "-",
        f"{group.running:,}",
        f"{group.succeeded:,}",
        f"{group.failed:,}",
        *durations(group.wait),
        *durations(group.took),
    ]


def _plain_cells(group: StatisticsGroup, found: Statistics) -> list[str]:
    def durations(of: Durations | None) -> list[str]:
        return [f"{of.p50:.3f}", f"{of.p95:.3f}"] if of is not None else ["-", "-"]

    def since(at: datetime | None) -> str:
        return f"{(found.now - at).total_seconds():.3f}" if at is not None else "-"

    waiting = [str(group.waiting), since(group.oldest_due_at)]
    counts = map(str, (group.running, group.succeeded, group.failed))
    # The fields that came last are last, so that programs find the others where they were.
    blocked = [str(group.blocked), since(group.oldest_blocked_at)]
    return [*waiting, *counts, *durations(group.wait), *durations(group.took), *blocked]
