"""`prune`: delete finished jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments, parsing
from spoke_jobs.cli.commands.exits import reports_errors
from spoke_jobs.cli.commands.ledger_access import open_ledger
from spoke_jobs.cli.words import count

_BATCH = 1000


@reports_errors
def prune(
    older_than: Annotated[
        float | None,
        typer.Option(
            parser=parsing.duration,
            metavar="DURATION",
            help="Delete the jobs that ended longer ago than this (90s, 5m, 2h, 7d), whatever their retention.",
        ),
    ] = None,
) -> None:
    """Delete the finished jobs whose retention is over."""
    ledger, deleted = open_ledger(), 0
    while number := ledger.prune(_BATCH, older_than_seconds=older_than):
        deleted += number
    print(f"{count(deleted, 'job')} deleted" if arguments.on_a_terminal() else deleted)
