"""`ls`: list jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import reports_errors
from spoke_jobs.cli.commands.ledger_access import open_queries
from spoke_jobs.model import ANY_JOB, JobState


@reports_errors
def ls(
    state: arguments.States = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed jobs, as --state failed.")] = False,
    job_type: arguments.Type = None,
    queue: arguments.Queue = None,
    organization: arguments.Organization = None,
    campaign: arguments.Campaign = None,
    cause: arguments.CauseName = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many jobs to list, the newest first.")] = 20,
    json: arguments.Json = False,
) -> None:
    """List the newest jobs. If the output is not a terminal, each line has ten fields, separated by tabs."""
    states = [*(state or ()), *([JobState.FAILED] if failed else ())]
    ledger, queries = open_queries()
    which = arguments.job_filter(states, job_type, queue, organization, campaign, cause)
    jobs = ledger.list_jobs(limit, which)
    if json:
        from spoke_jobs.cli.rendering.json_output import Jobs, print_document

        print_document(Jobs.of(jobs))
        return
    from spoke_jobs.cli.rendering import job_table

    now = queries.now()
    if not arguments.on_a_terminal():
        print(*job_table.job_lines(jobs, now), sep="\n", end="\n" if jobs else "")
        return
    from rich.console import Console

    if not jobs:
        print("no such jobs" if which != ANY_JOB else "no jobs")
        return
    console = Console(highlight=False)
    console.print(job_table.job_table(jobs, now, ages=True, width=console.width))
    if len(jobs) == limit:
        typer.secho(f"the newest {limit}: --limit shows more", dim=True)
