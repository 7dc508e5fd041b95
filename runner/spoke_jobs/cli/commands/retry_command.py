"""`retry`: start failed jobs again."""

from __future__ import annotations

from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import Exit, reports_errors, usage_error
from spoke_jobs.cli.commands.job_actions import Result, done, ending, for_each, missing
from spoke_jobs.cli.commands.ledger_access import open_ledger
from spoke_jobs.errors import UniquenessConflict
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobState


@reports_errors
def retry(
    job_ids: arguments.SomeIds = None,
    failed: Annotated[bool, typer.Option("--failed", help="All failed jobs that match the filters.")] = False,
    job_type: arguments.Type = None,
    queue: arguments.Queue = None,
    organization: arguments.Organization = None,
    campaign: arguments.Campaign = None,
    cause: arguments.CauseName = None,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="With --failed: at most this many jobs, the newest.")
    ] = 1000,
) -> None:
    """Start failed jobs again, each with its full retry budget.

    Give the jobs' ids, or --failed for all failed jobs that match the filters.
    """
    filters = (job_type, queue, organization, campaign, cause)
    filtered = any(value is not None for value in filters)
    if bool(job_ids) == failed:
        usage_error("give job ids, or --failed (with or without filters)")
    if job_ids and filtered:
        usage_error("filters need --failed; they can't be combined with ids")
    ledger = open_ledger()
    if job_ids:
        for_each(arguments.each_once(job_ids), lambda job_id: _retry(ledger, job_id))
        return
    jobs = ledger.list_jobs(limit, arguments.job_filter([JobState.FAILED], *filters))
    # The oldest first, so that the jobs start again in the order of their dispatch.
    for_each([job.id for job in reversed(jobs)], lambda job_id: _retry(ledger, job_id))
    if not jobs and arguments.on_a_terminal():
        print("no such failed jobs" if filtered else "no failed jobs")
    if len(jobs) == limit:
        typer.echo(f"these were the newest {limit}; there may be more: repeat the command, or raise --limit", err=True)


def _retry(ledger: SqlLedger, job_id: int) -> Result:
    before = ledger.get(job_id)
    try:
        job = ledger.retry(job_id)
    except UniquenessConflict as error:
        return Exit.FAILED, str(error)
    if before is None or job is None:
        return missing(job_id)
    if job.run == before.run:
        state = f"has {ending(job)}" if job.state.final else f"is {job.state}"
        return Exit.FAILED, f"job {job_id} {state}: only a failed job can be retried"
    return done(job, f"waiting, run {job.run}")
