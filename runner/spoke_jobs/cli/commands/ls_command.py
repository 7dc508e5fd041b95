"""`ls`: list jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import reports_errors
from spoke_jobs.cli.commands.filter_options import selects_jobs
from spoke_jobs.cli.commands.ledger_access import open_queries, refuse_unknown_names
from spoke_jobs.cli.printing import new_console, print_text, print_texts
from spoke_jobs.model import ANY_JOB, JobFilter, JobState


@reports_errors
@selects_jobs()
def ls(
    which: JobFilter = ANY_JOB,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed jobs; short for --state failed.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many jobs to list, the newest first.")] = 20,
    json: arguments.Json = False,
) -> None:
    """List the newest jobs, and the pause or the limit that holds back a waiting one (CAUSE).

    If the output is not a terminal, each line has ten fields, separated by tabs."""
    if failed:
        which = which.evolve(states=(*(which.states or ()), JobState.FAILED))
    queries = open_queries()
    jobs = queries.newest(limit, which)
    if not jobs:
        refuse_unknown_names(queries, which)
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.json_output import Jobs

        print_document(Jobs.of(jobs))
        return
    from spoke_jobs.cli.rendering import job_table

    now, held = queries.now(), queries.held(jobs)
    if not arguments.on_a_terminal():
        print_texts(job_table.job_lines(jobs, now, held))
        return
    if not jobs:
        print_text("no jobs match the filters" if which != ANY_JOB else "no jobs")
        return
    console = new_console()
    console.print(job_table.job_table(jobs, now, held, ages=True, width=console.width))
    if len(jobs) == limit:
        print_text(f"the newest {limit}: --limit shows more", dim=True)
