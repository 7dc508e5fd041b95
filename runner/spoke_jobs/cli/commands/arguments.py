"""Arguments and options that several commands share."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from spoke_jobs.contract.option_checks import LARGEST_ID, LARGEST_NUMBER


def parse_id(text: str) -> int:
    """Parse a job's id. With `min` and `max`, typer would print the limits in every help text."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= LARGEST_ID):
        raise typer.BadParameter(f"{text!r} is not an id: give a whole number from 1")
    return int(text)


def check_bounds(value: int | None) -> int | None:
    """Refuse a whole number that no database holds."""
    if value is not None and abs(value) > LARGEST_ID:
        raise typer.BadParameter(f"{value} is not a whole number of at most {LARGEST_ID}")
    return value


def check_number(value: int | None) -> int | None:
    """Refuse a number that no organization and no campaign has."""
    if value is not None and not 0 <= value <= LARGEST_NUMBER:
        raise typer.BadParameter(f"{value} is not a whole number from 0 to {LARGEST_NUMBER:,}")
    return value


Id = Annotated[int, typer.Argument(parser=parse_id, metavar="ID", help="The job's id.", show_default=False)]
Ids = Annotated[list[int], typer.Argument(parser=parse_id, metavar="ID", help="The jobs' ids.", show_default=False)]
SomeIds = Annotated[
    list[int] | None, typer.Argument(parser=parse_id, metavar="ID", help="The jobs' ids.", show_default=False)
]
TaskId = Annotated[int, typer.Argument(parser=parse_id, metavar="ID", help="The task's id.", show_default=False)]
TaskIds = Annotated[
    list[int] | None, typer.Argument(parser=parse_id, metavar="ID", help="The tasks' ids.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document; docs/reference/cli.md describes it.")]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what it would do.")]
DryRunOfFilters = Annotated[
    bool, typer.Option("--dry-run", help="Only print what it would do. It can't be combined with ids.")
]
Actor = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Who does this, for `spoke-jobs events`; by default the user and the host or, in a pod, its service "
        "account. Nobody verifies it.",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def each_once(ids: list[int]) -> list[int]:
    """Drop repeated ids, keeping the order."""
    return list(dict.fromkeys(ids))


def on_a_terminal() -> bool:
    """Whether standard output is a terminal. Otherwise lines are plain, with fields separated by tabs."""
    return sys.stdout.isatty()
