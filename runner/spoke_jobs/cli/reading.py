"""The commands that look: `ls`, `show`, `why`."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from spoke_jobs.cli import options
from spoke_jobs.cli.exits import Exit, fail, speaks_plainly
from spoke_jobs.cli.opening import look
from spoke_jobs.model import ANY_JOB, JobState


@speaks_plainly
def ls(
    state: options.States = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed jobs: --state failed.")] = False,
    job_type: options.Type = None,
    queue: options.Queue = None,
    organization: options.Organization = None,
    campaign: options.Campaign = None,
    cause: options.CauseName = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many jobs, the newest.")] = 20,
    json: options.Json = False,
) -> None:
    """List the newest jobs. Without a terminal: a line for each, its ten fields separated by tabs."""
    states = [*(state or ()), *([JobState.FAILED] if failed else ())]
    ledger, looking = look()
    which = options.job_filter(states, job_type, queue, organization, campaign, cause)
    jobs = ledger.list_jobs(limit, which)
    if json:
        from spoke_jobs.cli.shapes import Jobs, print_document

        print_document(Jobs.of(jobs))
        return
    from spoke_jobs.cli import tables

    now = looking.now()
    if not options.on_a_terminal():
        print(*tables.job_lines(jobs, now), sep="\n", end="\n" if jobs else "")
        return
    from rich.console import Console

    if not jobs:
        print("no such jobs" if which != ANY_JOB else "no jobs")
        return
    console = Console(highlight=False)
    console.print(tables.job_table(jobs, now, ages=True, width=console.width))
    if len(jobs) == limit:
        typer.secho(f"the newest {limit}: --limit shows more", dim=True)


@speaks_plainly
def show(
    job_id: options.Id,
    payload: Annotated[bool, typer.Option("--payload", help="Show the payload, too.")] = False,
    json: options.Json = False,
) -> None:
    """Show a job: its row, its options, its attempts, and the last lines of its output."""
    ledger, looking = look()
    job = ledger.get(job_id)
    if job is None:
        not_found(job_id)
    attempts = ledger.attempts(job_id)
    if json:
        from spoke_jobs.cli.shapes import Shown, print_document

        print_document(Shown.of(job, attempts, with_payload=payload))
        return
    from spoke_jobs.cli.showing import details, print_details, print_plain

    shown = details(job, attempts, looking.now(), with_payload=payload)
    (print_details if options.on_a_terminal() else print_plain)(shown)


@speaks_plainly
def why(job_id: options.Id, json: options.Json = False) -> None:
    """Say what a job waits for, how it runs, or why it ended: from the ledger alone."""
    from spoke_jobs.cli.why import explain

    _, looking = look()
    situation = looking.situation(job_id)
    if situation is None:
        not_found(job_id)
    explanation = explain(situation)
    if json:
        from spoke_jobs.cli.shapes import Explained, print_document

        print_document(Explained.of(situation.job, explanation))
        return
    from spoke_jobs.cli.telling import plain_lines, print_explanation

    if options.on_a_terminal():
        print_explanation(situation.job, explanation)
    else:
        print(*plain_lines(explanation), sep="\n")


def not_found(job_id: int) -> NoReturn:
    """There is no such job."""
    fail(f"there is no job {job_id}: it was pruned, or it is in another database", Exit.NOT_FOUND)
