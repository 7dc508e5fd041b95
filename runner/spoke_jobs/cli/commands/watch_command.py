"""`watch`: show the progress of jobs until all have ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import typer
from sqlalchemy.exc import OperationalError

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import Exit, fail_not_found, reports_errors, usage_error
from spoke_jobs.cli.commands.filter_options import selects_jobs
from spoke_jobs.cli.commands.ledger_access import open_queries, refuse_unknown_names
from spoke_jobs.cli.printing import new_console, print_error, print_text
from spoke_jobs.cli.rendering.progress_view import change_line, changes, progress_view, render
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.model import ANY_JOB, UNFINISHED, JobFilter, JobRequest, JobState

_EVERY_SECONDS = 0.5
Read = Callable[[], tuple[datetime, list[JobRequest]]]
"""Read the database's time and the jobs."""


@reports_errors
@selects_jobs("state", "batch", "lane")
def watch(
    job_ids: arguments.SomeIds = None,
    which: JobFilter = ANY_JOB,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="Without ids: watch at most this many jobs, the newest.")
    ] = 50,
    json: arguments.Json = False,
) -> None:
    """Watch the given jobs, or all unfinished ones that match the filters, until all have ended.

    Exit code 1 if one has failed. Jobs that are dispatched later are not watched.

    If the output is not a terminal, print a line for each change, with fields separated by tabs. With --json, print one
    document at the end.
    """
    if job_ids and which != ANY_JOB:
        usage_error("filters select jobs without their ids; they can't be combined with ids")
    queries = open_queries()
    if job_ids:
        ids = arguments.each_once(job_ids)
    else:
        ids = [job.id for job in reversed(queries.selected(which.evolve(states=UNFINISHED), limit))]
        if not ids:
            refuse_unknown_names(queries, which)
    there = {job.id for job in queries.jobs(ids)[1]}
    for job_id in ids:
        if job_id not in there:
            fail_not_found(job_id)
    if not ids and not json:
        if arguments.on_a_terminal():
            print_text("no unfinished jobs match the filters" if which != ANY_JOB else "no unfinished jobs")
        return
    until_ended(queries, ids, json)


def until_ended(queries: Queries, ids: list[int], json: bool) -> None:
    """Report the jobs until all have ended.

    :raises typer.Exit: with code 1 if one has failed.
    """
    try:
        jobs = _reporter(json)(lambda: queries.jobs(ids))
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.json_output import Jobs

        print_document(Jobs.of(jobs))
    if any(job.state is JobState.FAILED for job in jobs):
        raise typer.Exit(Exit.FAILED)


def _reporter(json: bool) -> Callable[[Read], list[JobRequest]]:
    if json:
        return lambda read: _until_ended(read, lambda _now, _jobs: None)
    return _with_bars if arguments.on_a_terminal() else _line_by_line


def _until_ended(read: Read, report: Callable[[datetime, list[JobRequest]], None]) -> list[JobRequest]:
    """Read the jobs twice a second and report them, until all have ended. Return their last states."""
    known: dict[int, JobRequest] = {}
    unreachable = False
    while True:
        try:
            now, jobs = read()
        except OperationalError:  # a watch may last hours, and must survive a failover
            if not unreachable:
                print_error("the database does not answer; retrying")
            unreachable = True
            time.sleep(_EVERY_SECONDS)
            continue
        unreachable = False
        known |= {job.id: job for job in jobs}  # a pruned job keeps its last state
        there = {job.id for job in jobs}
        report(now, list(known.values()))
        if all(job.state.final or job.id not in there for job in known.values()):
            return list(known.values())
        time.sleep(_EVERY_SECONDS)


def _line_by_line(read: Read) -> list[JobRequest]:
    before: list[JobRequest] = []

    def report(now: datetime, jobs: list[JobRequest]) -> None:
        nonlocal before
        for job in changes(before, jobs):
            print_text(change_line(job, now))
        before = jobs

    return _until_ended(read, report)


def _with_bars(read: Read) -> list[JobRequest]:
    from rich.live import Live

    console = new_console()
    with Live(console=console, auto_refresh=False, transient=False) as live:

        def report(now: datetime, jobs: list[JobRequest]) -> None:
            live.update(render(progress_view(jobs, console.height - 2), now, console.width), refresh=True)

        return _until_ended(read, report)
