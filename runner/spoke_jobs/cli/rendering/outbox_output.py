"""The output of `outbox`: a table for people, and lines with tabs for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from spoke_jobs.cli.printing import new_table
from spoke_jobs.explain.words import age, ago, count, line, until
from spoke_jobs.ledger.outbox.outbox_queries import ReplicaClaims
from spoke_jobs.ledger.outbox_row import TaskRow, TaskState

if TYPE_CHECKING:  # importing rich takes longer than most commands
    from rich.table import Table

HEADINGS = ("ID", "NAME", "STATE", "TRY", "CAUSE", "AGE", "REPLICA")
REPLICA_HEADINGS = ("REPLICA", "CLAIMED", "LAPSED", "LEASE ENDS")
_STYLES = {
    TaskState.DUE: "yellow",
    TaskState.LATER: "yellow",
    TaskState.CLAIMED: "cyan",
    TaskState.FAILED: "bold red",
}


def task_lines(tasks: Sequence[TaskRow], now: datetime) -> list[str]:
    """Format a line for each task, with cells separated by tabs, for programs."""
    return ["\t".join(_cells(task, now)) for task in tasks]


def task_table(tasks: Sequence[TaskRow], now: datetime) -> Table:
    """Make a table of tasks, in the order given."""
    from rich.text import Text

    table = new_table(HEADINGS)
    for task in tasks:
        styles = {"STATE": _STYLES[task.state], "CAUSE": "red" if task.state is TaskState.FAILED else "", "AGE": "dim"}
        cells = zip(HEADINGS, _cells(task, now), strict=True)
        table.add_row(*(Text(cell, styles.get(heading, "")) for heading, cell in cells))
    return table


def replica_lines(replicas: Sequence[ReplicaClaims], now: datetime) -> list[str]:
    """Format a line for each replica, with cells separated by tabs, for programs."""
    return ["\t".join(_replica_cells(one, now)) for one in replicas]


def replica_table(replicas: Sequence[ReplicaClaims], now: datetime) -> Table:
    """Make a table of replicas."""
    table = new_table(REPLICA_HEADINGS)
    for one in replicas:
        table.add_row(*_replica_cells(one, now), style="red" if not one.claimed else "")
    return table


def counts_text(counts: Mapping[TaskState, int]) -> str:
    """Say how many tasks are in each state: ``12 tasks: 10 due, 2 failed``."""
    parts = [f"{number:,} {state}" for state, number in counts.items() if number]
    return f"{count(sum(counts.values()), 'task')}{': ' if parts else ''}{', '.join(parts)}"


def _replica_cells(one: ReplicaClaims, now: datetime) -> list[str]:
    ends = until(one.lease_ends_at, now) if one.claimed else ago(one.lease_ends_at, now)
    return [line(one.replica), str(one.claimed), str(one.lapsed), ends]


def _cells(task: TaskRow, now: datetime) -> list[str]:
    return [
        str(task.id),
        line(task.name),
        task.state.value,
        str(task.attempt),
        line(task.cause) or "-",
        age(task.created_at, now),
        line(task.worker) or "-",
    ]
