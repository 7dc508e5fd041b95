"""Arguments and options that several commands share."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from spoke_jobs.model import JobFilter, JobState

_LARGEST_ID = 2**63 - 1


def _id(text: str) -> int:
    """Parse a job's id. With `min` and `max`, typer would print the limits in every help text."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= _LARGEST_ID):
        raise typer.BadParameter(f"{text!r} is not a job's id: give a whole number from 1")
    return int(text)


Id = Annotated[int, typer.Argument(parser=_id, metavar="ID", help="The job's id.", show_default=False)]
Ids = Annotated[list[int], typer.Argument(parser=_id, metavar="ID", help="The jobs' ids.", show_default=False)]
SomeIds = Annotated[
    list[int] | None, typer.Argument(parser=_id, metavar="ID", help="The jobs' ids.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document; docs/reference/cli.md describes it.")]

States = Annotated[
    list[JobState] | None,
    typer.Option(
        "--state",
        help="Only jobs in this state (waiting, running, succeeded, failed); may be repeated.",
        metavar="STATE",
    ),
]
Type = Annotated[
    str | None, typer.Option("--type", help="Only jobs of this type. 'ingest.*' selects by prefix.", show_default=False)
]
Queue = Annotated[str | None, typer.Option("--queue", help="Only jobs of this queue.", show_default=False)]
Organization = Annotated[
    int | None, typer.Option("--organization", help="Only jobs of this organization.", show_default=False)
]
Campaign = Annotated[int | None, typer.Option("--campaign", help="Only jobs of this campaign.", show_default=False)]
CauseName = Annotated[
    str | None,
    typer.Option("--cause", help="Only jobs with this cause: JobError, Timeout, ...", show_default=False),
]


def job_filter(
    states: list[JobState] | None,
    job_type: str | None,
    queue: str | None,
    organization: int | None,
    campaign: int | None,
    cause: str | None,
) -> JobFilter:
    """Combine the filter options."""
    return JobFilter(tuple(states) if states else None, job_type, queue, organization, campaign, cause)


def each_once(ids: list[int]) -> list[int]:
    """Drop repeated ids, keeping the order."""
    return list(dict.fromkeys(ids))


def on_a_terminal() -> bool:
    """Whether standard output is a terminal. Otherwise lines are plain, with fields separated by tabs."""
    return sys.stdout.isatty()
