"""`cancel`: end jobs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.actor import name_of_actor
from spoke_jobs.cli.commands.exits import reports_errors, usage_error
from spoke_jobs.cli.commands.filter_options import selects_jobs
from spoke_jobs.cli.commands.job_actions import Result, changed, confirm_each, for_each, missing
from spoke_jobs.cli.commands.ledger_access import open_ledger, refuse_unknown_names
from spoke_jobs.explain.changes import cancelled
from spoke_jobs.ledger.many_jobs import cancellable, dependents_first
from spoke_jobs.ledger.reading.queries import Queries, SelectedJob
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import ANY_JOB, JobFilter, JobState


@reports_errors
@selects_jobs()
def cancel(
    job_ids: arguments.SomeIds = None,
    which: JobFilter = ANY_JOB,
    reason: Annotated[
        str | None,
        typer.Option(
            "--reason",
            help="Only jobs that wait for this reason, as `spoke-jobs why` or `ls` prints it.",
            show_default=False,
        ),
    ] = None,
    dry_run: arguments.DryRunOfFilters = False,
    yes: arguments.Yes = False,
    actor: arguments.Actor = None,
) -> None:
    """Cancel jobs. A waiting job ends at once; a running job is asked to stop.

    Give the jobs' ids, or filters for all unfinished jobs that match them. With --reason, only waiting jobs.
    """
    if bool(job_ids) == (which != ANY_JOB or reason is not None):
        usage_error("give either job ids or at least one filter (--type '*' selects all unfinished jobs)")
    if job_ids and dry_run:
        usage_error("--dry-run can't be combined with ids: it shows what filters select")
    by = name_of_actor(actor)
    if job_ids:
        ledger = open_ledger()
        for_each(arguments.each_once(job_ids), lambda job_id: cancel_one(ledger, job_id, by))
        return
    if any(one.final for one in which.states or ()):
        usage_error("only unfinished jobs can be cancelled")
    ledger = open_ledger()
    queries = Queries(ledger.engine)
    if reason is None:
        selected = queries.selected(cancellable(which))
    else:
        from spoke_jobs.cli.commands.job_groups import waiting_for

        wait_for_it = waiting_for(queries, reason)
        waiting = queries.selected(which.evolve(states=(JobState.WAITING, JobState.BLOCKED)))
        selected = [job for job in waiting if job.id in wait_for_it]
    if not selected:
        refuse_unknown_names(queries, which)
    if confirm_each("cancel", selected, dry_run=dry_run, yes=yes):
        cancel_each(ledger, selected, by)


def cancel_each(ledger: SqlLedger, selected: Collection[SelectedJob], by: str) -> None:
    """Cancel unfinished jobs. One that fails because another of them is cancelled is done, too.

    :raises typer.Exit: with the highest code, unless every job is done.
    """
    for_each(dependents_first(selected), lambda job_id: cancel_one(ledger, job_id, by, among_others=True))


def cancel_one(ledger: SqlLedger, job_id: int, by: str, *, among_others: bool = False) -> Result:
    """Cancel a job, and say what that did."""
    before = ledger.get(job_id)
    job = ledger.cancel(job_id, by)
    if before is None or job is None:
        return missing(job_id)
    return changed(job, cancelled(before, job, among_others=among_others))
