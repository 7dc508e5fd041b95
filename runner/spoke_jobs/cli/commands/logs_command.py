"""`logs`: what a job prints, from its pods while they are there, else what the ledger keeps of it."""

from __future__ import annotations

from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import Exit, reports_errors
from spoke_jobs.cli.commands.ledger_access import open_queries


@reports_errors
def logs(
    job_id: arguments.Id,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended, through all further attempts.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Of this attempt, and of no other.", show_default="the newest")
    ] = None,
) -> None:
    """Print what a job prints: from its pod while that is there, else the tail that the ledger keeps.

    What else is to be said goes to standard error: what it waits for, which attempt it is. With --follow the exit code
    is 1 if the job has failed.
    """
    from spoke_jobs.cli.commands.log_reader import Reader

    _, looking = open_queries()
    reader = Reader(looking, job_id, attempt)
    try:
        code = reader.follow() if follow else reader.once()
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    finally:
        reader.close()
    if code is not Exit.DONE:
        raise typer.Exit(code)
