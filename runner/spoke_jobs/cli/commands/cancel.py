"""`cancel`: end jobs."""

from __future__ import annotations

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import Exit, reports_errors
from spoke_jobs.cli.commands.job_actions import Result, done, ending, for_each, missing
from spoke_jobs.cli.commands.ledger_access import open_ledger
from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobState


@reports_errors
def cancel(job_ids: arguments.Ids) -> None:
    """Cancel jobs. A waiting job ends at once; a running job is asked to stop."""
    ledger = open_ledger()
    for_each(arguments.each_once(job_ids), lambda job_id: _cancel(ledger, job_id))


def _cancel(ledger: SqlLedger, job_id: int) -> Result:
    before = ledger.get(job_id)
    job = ledger.cancel(job_id)
    if before is None or job is None:
        return missing(job_id)
    if before.state.final:
        return Exit.FAILED, f"job {job_id} has already {ending(before)}: there is nothing to cancel"
    if job.state is JobState.RUNNING:
        return done(job, "asked to stop")
    if job.cause != Cause.CANCELLED:
        return Exit.FAILED, f"job {job_id} ended before it was cancelled: it has {ending(job)}"
    return done(job, "cancelled")
