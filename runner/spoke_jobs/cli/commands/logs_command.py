"""`logs`: what a job prints."""

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
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the pod's output unchanged, with its colors and control characters.")
    ] = False,
) -> None:
    """Print the output of a job.

    Under `kubernetes` the output comes from the job's pod. Once the pod is gone, this command prints the last lines
    that the ledger keeps.

    Under `legacy` the output is in the worker's log, each line with the job's id. This command prints the last lines,
    at most 8,000 characters, which the ledger keeps: of a failed attempt, with its traceback, and of an attempt that
    has taken more than 2 s, also while it runs. With SPOKE_OUTPUT=all the ledger keeps them of all attempts.

    Control characters are printed as escapes such as \\x1b, unless you use --raw: with them, a job could write anything
    to your terminal.

    The attempt's number and the reason to wait are printed to standard error. With --follow the exit code is 1 if the
    job has failed.
    """
    from spoke_jobs.cli.commands.log_reader import Reader

    queries = open_queries()
    reader = Reader(queries, job_id, attempt, raw=raw)
    try:
        code = reader.follow() if follow else reader.once()
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    finally:
        reader.close()
    if code is not Exit.DONE:
        raise typer.Exit(code)
