"""`retry`: start failed jobs again."""

from __future__ import annotations

from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.actor import name_of_actor
from spoke_jobs.cli.commands.exits import Exit, reports_errors, usage_error
from spoke_jobs.cli.commands.filter_options import selects_jobs
from spoke_jobs.cli.commands.job_actions import Result, changed, confirm_each, for_each, missing
from spoke_jobs.cli.commands.ledger_access import open_ledger, refuse_unknown_names
from spoke_jobs.cli.printing import print_note
from spoke_jobs.errors import UniquenessConflict
from spoke_jobs.explain.changes import retried
from spoke_jobs.ledger.many_jobs import retryable
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import ANY_JOB, JobFilter


@reports_errors
@selects_jobs("state")
def retry(
    job_ids: arguments.SomeIds = None,
    failed: Annotated[bool, typer.Option("--failed", help="All failed jobs that match the filters.")] = False,
    which: JobFilter = ANY_JOB,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            callback=arguments.check_bounds,
            help="With --failed: at most this many jobs, the newest.",
            show_default=False,
        ),
    ] = None,
    clear_checkpoints: Annotated[
        bool,
        typer.Option("--clear-checkpoints", help="Start from the beginning: forget checkpoints and steps."),
    ] = False,
    dry_run: arguments.DryRunOfFilters = False,
    yes: arguments.Yes = False,
    actor: arguments.Actor = None,
) -> None:
    """Start failed jobs again, each with its full retry budget.

    Give the jobs' ids, or --failed for all failed jobs that match the filters; --fingerprint implies --failed.
    --failed leaves out the jobs that somebody cancelled; --cause Cancelled selects them.

    A job that saves checkpoints goes on from its last one, and steps that are done are not repeated. With
    --clear-checkpoints, it starts from the beginning.
    """
    if bool(job_ids) == (failed or which.fingerprint is not None):
        usage_error("give job ids, or --failed (with or without filters), or --fingerprint")
    if job_ids and which != ANY_JOB:
        usage_error("filters need --failed; they can't be combined with ids")
    if job_ids and limit is not None:
        usage_error("--limit needs --failed; it can't be combined with ids")
    if job_ids and dry_run:
        usage_error("--dry-run can't be combined with ids: it shows what filters select")
    by = name_of_actor(actor)
    ledger = open_ledger()
    queries = Queries(ledger.engine)
    if job_ids:
        for_each(arguments.each_once(job_ids), lambda job_id: _retry(ledger, job_id, by, clear_checkpoints))
        return
    # The oldest first, so that the jobs start again in the order of their dispatch.
    selected = queries.selected(retryable(which), limit)
    if not selected:
        refuse_unknown_names(queries, which)
    if confirm_each("retry", selected, dry_run=dry_run, yes=yes):
        for_each([job.id for job in selected], lambda job_id: _retry(ledger, job_id, by, clear_checkpoints))
    if limit is not None and len(selected) == limit:
        print_note(f"these were the newest {limit}; there may be more: repeat the command, or raise --limit")


def _retry(ledger: SqlLedger, job_id: int, by: str, clear_checkpoints: bool) -> Result:
    before = ledger.get(job_id)
    try:
        job = ledger.retry(job_id, by, clear_checkpoints=clear_checkpoints)
    except UniquenessConflict as error:
        return Exit.FAILED, str(error)
    if before is None or job is None:
        return missing(job_id)
    return changed(job, retried(before, job))
