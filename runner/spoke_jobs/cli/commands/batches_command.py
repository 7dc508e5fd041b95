"""`batches`: jobs that were dispatched together, and the job that follows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments, filter_options
from spoke_jobs.cli.commands.actor import name_of_actor
from spoke_jobs.cli.commands.cancel_command import cancel_each
from spoke_jobs.cli.commands.command_classes import CommandGroup, Consequential, PlainErrors
from spoke_jobs.cli.commands.exits import EPILOG, Exit, fail, reports_errors
from spoke_jobs.cli.commands.job_actions import changed, confirm
from spoke_jobs.cli.commands.ledger_access import open_ledger
from spoke_jobs.cli.printing import new_console, print_row, print_text
from spoke_jobs.explain.changes import cancelled, kinds_of
from spoke_jobs.explain.words import age, line, moment
from spoke_jobs.ledger.job_batch import ANY_BATCH, BatchFilter
from spoke_jobs.ledger.reading.queries import Queries, SelectedJob

app = typer.Typer(cls=CommandGroup, epilog=EPILOG, no_args_is_help=True, help="Jobs that were dispatched together.")
HEADINGS = ("ID", "NAME", "STATE", "JOBS", "SUCCEEDED", "FAILED", "THEN", "AGE")
_NEWEST = 1000
"""How many of the newest batches are read to find names that resemble a mistyped one."""
BatchId = Annotated[
    int, typer.Argument(parser=arguments.parse_id, metavar="ID", help="The batch's id.", show_default=False)
]


@app.command("ls", cls=PlainErrors)
@reports_errors
def ls(
    name: Annotated[str | None, filter_options.pattern("--name", "batches of this name", "import*")] = None,
    since: Annotated[datetime | None, filter_options.since("batches opened")] = None,
    until: Annotated[datetime | None, filter_options.until("batches opened")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many batches to list, the newest first.")] = 20,
    json: arguments.Json = False,
) -> None:
    """List the newest batches, with counts of their jobs.

    If the output is not a terminal, each line has eight fields, separated by tabs.
    """
    filter_options.check_period(since, until)
    which = BatchFilter(name, since, until)
    ledger = open_ledger()
    found = ledger.batches(limit, which)
    if not found and name is not None and not ledger.batches(1, BatchFilter(name)):
        newest = [one.name for one in ledger.batches(_NEWEST)]
        filter_options.refuse_name(name, lambda: newest, "name", "no batch has {}", "--name")
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.counts_json import Batches

        print_document(Batches.of(found))
        return
    now = Queries(ledger.engine).now()
    rows = [
        (str(one.id), line(one.name), one.state, f"{one.total}", f"{one.succeeded}", f"{one.failed}",
         "-" if one.then_id is None else str(one.then_id), age(one.created_at, now))
        for one in found
    ]  # fmt: skip
    if not arguments.on_a_terminal():
        for row in rows:
            print_row(*row)
        return
    if not rows:
        print_text("no batches match the filters" if which != ANY_BATCH else "no batches")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    new_console().print(table)


@app.command("show", cls=PlainErrors)
@reports_errors
def show(batch_id: BatchId, json: arguments.Json = False) -> None:
    """Show one batch. `spoke-jobs show` shows the job that follows it."""
    ledger = open_ledger()
    found = ledger.batch(batch_id)
    if found is None:
        fail(_missing(batch_id), Exit.NOT_FOUND)
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.counts_json import BatchState

        print_document(BatchState.of(found))
        return
    facts = {
        "name": line(found.name),
        "state": found.state,
        "jobs": f"{found.total}",
        "succeeded": f"{found.succeeded}",
        "failed": f"{found.failed}",
        "then": "" if found.then_id is None else f"job {found.then_id}",
        "on failed": found.on_failed,
    }
    now = Queries(ledger.engine).now()
    times = {"opened": found.created_at, "closed": found.closed_at, "finished": found.finished_at}
    facts |= {name: moment(when, now) for name, when in times.items() if when is not None}
    for name, value in facts.items():
        if value:
            print_row(name, value)


@app.command("close", cls=Consequential)
@reports_errors
def close(batch_id: BatchId, actor: arguments.Actor = None) -> None:
    """Close a batch whose dispatching process did not, so that the job that follows it can start."""
    found = open_ledger().close_batch(batch_id, name_of_actor(actor))
    if found is None:
        fail(_missing(batch_id), Exit.NOT_FOUND)
    print_text(f"batch {found.id} ({line(found.name)}): {found.state}")


@app.command("cancel", cls=Consequential)
@reports_errors
def cancel_batch(
    batch_id: BatchId,
    dry_run: arguments.DryRun = False,
    yes: arguments.Yes = False,
    actor: arguments.Actor = None,
) -> None:
    """Cancel the unfinished jobs of a batch, and close it, so that it finishes with the last of them.

    The job that follows is cancelled, too. If the batch was made with on_failed="run", that job runs instead, after
    the last end.
    """
    ledger, by = open_ledger(), name_of_actor(actor)
    found = ledger.batch(batch_id)
    if found is None:
        fail(_missing(batch_id), Exit.NOT_FOUND)
    if found.finished_at is not None:
        fail(f"batch {batch_id} ({line(found.name)}) has finished: there is nothing to cancel", Exit.FAILED)
    jobs = [SelectedJob(*job) for job in ledger.unfinished_in_batch(batch_id)]
    then = ledger.get(found.then_id) if found.then_id is not None and found.on_failed == "fail" else None
    follows = [SelectedJob(then.id, then.job_type, then.state)] if then is not None and not then.state.final else []
    kinds = kinds_of([*jobs, *follows])
    if not confirm(f"cancel batch {batch_id} ({line(found.name)})", kinds, dry_run=dry_run, yes=yes):
        return
    if ledger.cancel_batch(batch_id, by) is None:
        fail(_missing(batch_id), Exit.NOT_FOUND)
    if then is not None and follows and (after := ledger.get(then.id)) is not None:
        _, said = changed(after, cancelled(then, after))
        print_text(said)
    # After the batch is closed: it finishes as soon as the last of these has ended.
    cancel_each(ledger, [SelectedJob(*job) for job in ledger.unfinished_in_batch(batch_id)], by)


def _missing(batch_id: int) -> str:
    return f"there is no batch {batch_id}: it was pruned, or it is in another database"
