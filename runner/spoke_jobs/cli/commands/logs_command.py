"""`logs`: what a job of the runner `kubernetes` prints."""

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
        bool, typer.Option("--follow", "-f", help="Continue until the job has ended, through all further attempts.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Print only this attempt.", show_default="the newest")
    ] = None,
) -> None:
    """Print the output of a job of the runner `kubernetes`.

    The output comes from its pod. Once the pod is gone, this command prints the last lines that the ledger keeps. Under
    `legacy` a job prints to its worker's output, so look there. This command then prints only the last lines of a
    failed attempt's traceback.

    The attempt's number and the reason to wait are printed to standard error. With --follow the exit code is 1 if the
    job has failed.
    """
    from spoke_jobs.cli.commands.log_reader import Reader

    _, queries = open_queries()
    reader = Reader(queries, job_id, attempt)
    try:
        code = reader.follow() if follow else reader.once()
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    finally:
        reader.close()
    if code is not Exit.DONE:
        raise typer.Exit(code)
