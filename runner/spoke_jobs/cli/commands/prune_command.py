"""`prune`: delete finished jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments, parsing
from spoke_jobs.cli.commands.actor import name_of_actor
from spoke_jobs.cli.commands.exits import reports_errors, usage_error
from spoke_jobs.cli.commands.filter_options import selects_jobs
from spoke_jobs.cli.commands.job_actions import confirm
from spoke_jobs.cli.commands.ledger_access import open_ledger, refuse_unknown_names
from spoke_jobs.cli.printing import print_text
from spoke_jobs.explain.words import count
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.model import ANY_JOB, JobFilter

_BATCH = 1000


@reports_errors
@selects_jobs("batch", "lane")
def prune(
    older_than: Annotated[
        float | None,
        typer.Option(
            parser=parsing.duration,
            metavar="DURATION",
            help="Delete the jobs that ended longer ago than this (90s, 5m, 2h, 7d), whatever their retention.",
        ),
    ] = None,
    which: JobFilter = ANY_JOB,
    dry_run: arguments.DryRun = False,
    yes: arguments.Yes = False,
    actor: arguments.Actor = None,
) -> None:
    """Delete the finished jobs whose retention is over.

    It does not ask: workers and sync delete these jobs anyway, and filters only leave some out. With --older-than it
    asks first, because they would not delete these jobs yet.
    """
    if any(not one.final for one in which.states or ()):
        usage_error("only succeeded and failed jobs can be deleted; end others with `spoke-jobs cancel`")
    ledger = open_ledger()
    queries = Queries(ledger.engine)
    if dry_run or older_than is not None:
        counts = queries.prunable(older_than, which)
        if not counts:
            refuse_unknown_names(queries, which)
        details = [f"{count(number, f'{state} job')}" for state, number in sorted(counts.items())]
        if not counts:
            print_text("no jobs to delete" if arguments.on_a_terminal() else "0")
            return
        if not confirm(f"delete {count(sum(counts.values()), 'job')}", details, dry_run=dry_run, yes=yes):
            return
    deleted, by = 0, name_of_actor(actor)
    while number := ledger.prune(_BATCH, older_than_seconds=older_than, which=which, by=by):
        deleted += number
    if not deleted:
        refuse_unknown_names(queries, which)
    print_text(f"{count(deleted, 'job')} deleted" if arguments.on_a_terminal() else str(deleted))
