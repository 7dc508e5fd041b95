"""What `why` without an id prints: a line for each group of jobs, and its action."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from spoke_jobs.cli.explaining.groups import Group
from spoke_jobs.cli.printing import new_console
from spoke_jobs.cli.rendering.schedule_output import ScheduleProblem
from spoke_jobs.cli.rendering.shape import Shape
from spoke_jobs.cli.words import line, seconds


class ReasonGroup(Shape):
    """The jobs that wait or have failed for one reason."""

    state: str
    """waiting, blocked or failed."""
    reason: str
    """Of waiting jobs, one of the codes below, or the operator's reason or cause (docs/reference/causes.md):
    `cancel --reason` takes it. Of failed jobs, the cause."""
    fingerprint: str
    """The type and the place of the exception: `retry --failed --fingerprint` takes it. Empty if there was none."""
    text: str
    """What the jobs wait for, or how they failed. It may change between releases."""
    advice: str
    """What to do; empty if nothing needs to be done."""
    count: int
    oldest_at: datetime | None
    """Since when the oldest waits, or when it failed. Of jobs that start later, when the first one does."""
    newest_at: datetime | None
    """When the newest failed; null for waiting jobs."""
    job_id: int | None
    """The first of the waiting jobs, or the newest of the failed ones."""

    @classmethod
    def of(cls, group: Group) -> Self:
        """Convert a group."""
        return cls.model_validate(group)


class ReasonGroups(Shape):
    """The output of `why` without an id."""

    period_seconds: float
    """How long ago a job may have failed."""
    groups: tuple[ReasonGroup, ...]
    """First the waiting jobs, then the failed ones, in each case the largest group first."""
    schedules: tuple[ScheduleProblem, ...]
    """Schedules with due times in the period that dispatched no job, and those that dispatch none."""


def document(groups: Sequence[Group], period_seconds: float, schedules: Sequence[ScheduleProblem]) -> ReasonGroups:
    """Convert groups and schedules."""
    return ReasonGroups(
        period_seconds=period_seconds,
        groups=tuple(ReasonGroup.of(group) for group in groups),
        schedules=tuple(schedules),
    )


def group_lines(groups: Sequence[Group], now: datetime) -> list[str]:
    """Format for programs: state, reason, fingerprint, count, age of the oldest in seconds, text and advice."""
    return [
        "\t".join(
            (
                group.state,
                line(group.reason),
                line(group.fingerprint),
                str(group.count),
                str(int(max((now - group.oldest_at).total_seconds(), 0))) if group.oldest_at else "",
                group.text,
                line(group.advice),
            )
        )
        for group in groups
    ]


def print_groups(groups: Sequence[Group], period_seconds: float, now: datetime) -> None:
    """Print for a person: each group, with the action below it."""
    from rich.table import Table
    from rich.text import Text

    console = new_console()
    failed = f"failed in the last {seconds(period_seconds)}"
    for state, heading in (("waiting", "waiting"), ("blocked", "blocked"), ("failed", failed)):
        of_state = [group for group in groups if group.state == state]
        if state == "blocked" and not of_state:
            continue
        total = sum(group.count for group in of_state)
        console.print(Text.assemble((heading, "bold"), f": {total:,}"))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(justify="right", no_wrap=True, min_width=6)
        grid.add_column(overflow="fold")
        for group in of_state:
            grid.add_row(f"{group.count:,}", Text(f"{group.text}{_oldest(group, now)}"))
            if group.advice:
                grid.add_row("", Text.assemble(("→ ", "bold green"), (line(group.advice), "green")))
        if of_state:
            console.print(grid)


def _oldest(group: Group, now: datetime) -> str:
    if group.state == "failed" or group.oldest_at is None or group.oldest_at > now:
        return ""
    return f" (the oldest for {seconds((now - group.oldest_at).total_seconds())})"
