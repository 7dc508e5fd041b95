"""The commands that change what is in the ledger: `cancel`, `retry`, `prune`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments, parsing
from spoke_jobs.cli.commands.exits import Exit, say_wrong, speaks_plainly, wrong_usage
from spoke_jobs.cli.commands.opening import open_ledger
from spoke_jobs.cli.words import count, line
from spoke_jobs.errors import UniquenessConflict
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest, JobState

_AT_ONCE = 1000


@speaks_plainly
def cancel(job_ids: arguments.Ids) -> None:
    """End jobs: those that wait end at once, those that run are asked to stop."""
    ledger = open_ledger()
    _each(arguments.each_once(job_ids), lambda job_id: _cancel(ledger, job_id))


def _cancel(ledger: SqlLedger, job_id: int) -> tuple[Exit, str]:
    before = ledger.get(job_id)
    job = ledger.cancel(job_id)
    if before is None or job is None:
        return _missing(job_id)
    if before.state.final:
        return Exit.FAILED, f"job {job_id} has {_ended(before)} already: there is nothing to cancel"
    if job.state is JobState.RUNNING:
        return Exit.DONE, _said(job, "asked to stop")
    if job.cause != "Cancelled":
        return Exit.FAILED, f"job {job_id} was quicker: it has {_ended(job)}"
    return Exit.DONE, _said(job, "cancelled")


@speaks_plainly
def retry(
    job_ids: arguments.SomeIds = None,
    failed: Annotated[bool, typer.Option("--failed", help="All failed jobs that the filters leave.")] = False,
    job_type: arguments.Type = None,
    queue: arguments.Queue = None,
    organization: arguments.Organization = None,
    campaign: arguments.Campaign = None,
    cause: arguments.CauseName = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="With --failed: how many, the newest.")] = 1000,
) -> None:
    """Start failed jobs again, each with its budgets full: those named, or with --failed all that the filters leave."""
    filters = (job_type, queue, organization, campaign, cause)
    if bool(job_ids) == failed:
        wrong_usage("name the jobs' ids, or give --failed, with filters or without")
    if job_ids and any(value is not None for value in filters):
        wrong_usage("filters go with --failed, not with ids")
    ledger = open_ledger()
    if job_ids:
        _each(arguments.each_once(job_ids), lambda job_id: _retry(ledger, job_id))
        return
    jobs = ledger.list_jobs(limit, arguments.job_filter([JobState.FAILED], *filters))
    # The oldest first: what was dispatched first starts first again.
    _each([job.id for job in reversed(jobs)], lambda job_id: _retry(ledger, job_id))
    if not jobs and arguments.on_a_terminal():
        print("no such failed jobs" if any(value is not None for value in filters) else "no failed jobs")
    if len(jobs) == limit:
        typer.echo(f"these were the newest {limit}; there may be more: repeat it, or raise --limit", err=True)


def _retry(ledger: SqlLedger, job_id: int) -> tuple[Exit, str]:
    before = ledger.get(job_id)
    try:
        job = ledger.retry(job_id)
    except UniquenessConflict as error:
        return Exit.FAILED, str(error)
    if before is None or job is None:
        return _missing(job_id)
    if job.run == before.run:
        how = f"has {_ended(job)}" if job.state.final else f"is {job.state}"
        return Exit.FAILED, f"job {job_id} {how}: only a failed job is started again"
    return Exit.DONE, _said(job, f"waiting, run {job.run}")


@speaks_plainly
def prune(
    older_than: Annotated[
        float | None,
        typer.Option(
            parser=parsing.duration,
            metavar="DURATION",
            help="Whatever their retention, those that ended longer ago than this: 90s, 5m, 2h, 7d.",
        ),
    ] = None,
) -> None:
    """Delete the finished jobs whose retention is over."""
    ledger, deleted = open_ledger(), 0
    while number := ledger.prune(_AT_ONCE, older_than_seconds=older_than):
        deleted += number
    print(f"{count(deleted, 'job')} deleted" if arguments.on_a_terminal() else deleted)


def _each(ids: list[int], act: Callable[[int], tuple[Exit, str]]) -> None:
    """Act on each job, say what became of it, and end with what was worst: a missing job, then a refusal."""
    worst = Exit.DONE
    for job_id in ids:
        code, text = act(job_id)
        worst = max(worst, code)
        if code is Exit.DONE:
            print(text, flush=True)
        else:
            say_wrong(text)
    if worst is not Exit.DONE:
        raise typer.Exit(worst)


def _missing(job_id: int) -> tuple[Exit, str]:
    return Exit.NOT_FOUND, f"there is no job {job_id}: it was pruned, or it is in another database"


def _said(job: JobRequest, what: str) -> str:
    if arguments.on_a_terminal():
        return f"job {job.id} ({line(job.job_type)}): {what}"
    return f"{job.id}\t{line(job.job_type)}\t{what}"


def _ended(job: JobRequest) -> str:
    return f"failed ({job.cause})" if job.state is JobState.FAILED else job.state.value
