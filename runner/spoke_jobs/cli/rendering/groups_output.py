"""What `why` without an id prints: a line for each group of jobs, and its action."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from spoke_jobs.cli.printing import new_console
from spoke_jobs.explain.groups import Group, oldest_of
from spoke_jobs.explain.words import line, seconds


def group_lines(groups: Sequence[Group], now: datetime) -> list[str]:
    """Format for programs: state, reason, fingerprint, count, age of the oldest in seconds, text, advice, message."""
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
                line(group.message),
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
            if group.message:
                grid.add_row("", Text(group.message, "dim"))
            if group.advice:
                grid.add_row("", Text.assemble(("→ ", "bold green"), (line(group.advice), "green")))
        if of_state:
            console.print(grid)


def _oldest(group: Group, now: datetime) -> str:
    return f" ({said})" if (said := oldest_of(group, now)) else ""
