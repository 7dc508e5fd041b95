"""`run-now`, `priority` and `suspend`: change when jobs start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.actor import name_of_actor
from spoke_jobs.cli.commands.exits import Exit, reports_errors
from spoke_jobs.cli.commands.job_actions import Result, done, for_each, missing
from spoke_jobs.cli.commands.ledger_access import open_ledger
from spoke_jobs.contract.names import PRIORITY_LIMIT
from spoke_jobs.errors import ChangeRefused
from spoke_jobs.job_options import OPTIONS
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest


@reports_errors
def run_now(job_ids: arguments.Ids, actor: arguments.Actor = None) -> None:
    """Make jobs due now that wait for a time to come.

    It is the time of their dispatch (--run-after), or of their next attempt. They then start as other due jobs do: by
    priority and age, under limits and locks. A job with a SpokeJob is refused: the operator decides when it starts.
    """
    ledger, by = open_ledger(), name_of_actor(actor)
    for_each(arguments.each_once(job_ids), lambda job_id: _changed(job_id, ledger.run_now, "due now", by))


@reports_errors
def priority(
    job_ids: arguments.Ids,
    to: Annotated[
        int,
        typer.Option(
            "--to",
            metavar="NUMBER",
            help=f"The new priority, from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}; 0 is that of most jobs.",
            show_default=False,
        ),
    ],
    actor: arguments.Actor = None,
) -> None:
    """Change the priority of jobs that wait or are blocked. Of the due jobs, those with a higher one start first.

    Under `kubernetes`, sync passes it on to the SpokeJob.
    """
    if problem := OPTIONS["priority"].check(to):
        raise typer.BadParameter(f"the priority{problem}", param_hint="--to")
    ledger, by = open_ledger(), name_of_actor(actor)

    def change(job_id: int, by: str) -> JobRequest | None:
        return ledger.set_priority(job_id, to, by)

    for_each(arguments.each_once(job_ids), lambda job_id: _changed(job_id, change, f"priority {to}", by))


@reports_errors
def suspend(
    job_ids: arguments.Ids,
    reason: Annotated[str, typer.Option("--reason", help="Why; shown by `spoke-jobs why`.", show_default=False)] = "",
    actor: arguments.Actor = None,
) -> None:
    """Let no attempt of jobs start until `spoke-jobs resume ID`. Running attempts go on.

    To suspend the jobs of a type, a queue or an organization, also those to come, use `spoke-jobs pause`.
    """
    ledger, by = open_ledger(), name_of_actor(actor)

    def change(job_id: int, by: str) -> JobRequest | None:
        return ledger.suspend(job_id, reason, by)

    for_each(arguments.each_once(job_ids), lambda job_id: _changed(job_id, change, "suspended", by))


def resume_jobs(ledger: SqlLedger, job_ids: list[int], by: str) -> None:
    """Resume suspended jobs.

    :raises typer.Exit: with the highest code, unless every job is done.
    """
    for_each(arguments.each_once(job_ids), lambda job_id: _changed(job_id, ledger.resume, "resumed", by))


def _changed(job_id: int, change: Callable[[int, str], JobRequest | None], what: str, by: str) -> Result:
    try:
        job = change(job_id, by)
    except ChangeRefused as error:
        return Exit.FAILED, str(error)
    return missing(job_id) if job is None else done(job, what)
