"""`stats`: count jobs, and measure how long they wait and take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import typer
from sqlalchemy.exc import OperationalError

from spoke_jobs.cli.commands import arguments, parsing
from spoke_jobs.cli.commands.exits import Exit, reports_errors, usage_error
from spoke_jobs.cli.commands.filter_options import selects_jobs
from spoke_jobs.cli.commands.ledger_access import open_queries, refuse_unknown_names
from spoke_jobs.cli.printing import new_console, print_texts
from spoke_jobs.ledger.reading.statistics import GroupedBy, Statistics
from spoke_jobs.model import ANY_JOB, JobFilter

_EVERY_SECONDS = 2.0
_HOUR = 3600.0


@reports_errors
@selects_jobs()
def stats(
    by: Annotated[
        GroupedBy, typer.Option(help="Group by type, state, queue, organization, cause or lane.", metavar="WHAT")
    ] = GroupedBy.TYPE,
    period: Annotated[
        float | None,
        typer.Option(
            parser=parsing.duration,
            metavar="DURATION",
            help="Count the jobs that ended within this time: 10m, 1h (the default), 7d.",
            show_default=False,
        ),
    ] = None,
    which: JobFilter = ANY_JOB,
    limit: Annotated[int, typer.Option(min=1, help="How many groups to show on a terminal, the largest first.")] = 30,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")] = False,
    json: arguments.Json = False,
) -> None:
    """Count waiting, blocked, running and recently ended jobs, and show how long they waited and took.

    WAIT is the time from when a job was due to its first start, TOOK the time from then to its end: the median, and the
    95th percentile (WAIT95, TOOK95). Of a job that was retried by hand, or moved to a pod, both are about its newest
    run. If an earlier release has claimed it, it is not known when it was due, and WAIT counts from its dispatch.
    OLDEST is for how long the oldest waiting job has been due, LONGEST how long ago the oldest blocked job was
    dispatched.

    If the output is not a terminal, each line has twelve fields, separated by tabs, and durations are in seconds. The
    last two fields are about blocked jobs.
    """
    if period == 0:
        usage_error("--period must be longer than 0 s")
    if watch and (json or not arguments.on_a_terminal()):
        usage_error("--watch needs a terminal, and can't be combined with --json")
    queries = open_queries()

    def read() -> Statistics:
        return queries.statistics(by, period or _HOUR, which)

    found = read()
    if not found.groups:
        refuse_unknown_names(queries, which)
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.counts_json import Stats

        print_document(Stats.of(found))
    elif watch:
        _watch(read, by, limit)
    else:
        from spoke_jobs.cli.rendering import statistics_table

        if not arguments.on_a_terminal():
            print_texts(statistics_table.statistics_lines(found))
            return
        console = new_console()
        console.print(statistics_table.statistics_table(found, by, limit, console.width))


def _watch(read: Callable[[], Statistics], by: GroupedBy, limit: int) -> None:
    from rich.live import Live

    from spoke_jobs.cli.rendering.statistics_table import statistics_table

    console = new_console()
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                shown = min(limit, max(console.height - 5, 1))
                try:
                    live.update(statistics_table(read(), by, shown, console.width), refresh=True)
                except OperationalError:  # somebody may watch a failover
                    live.update("the database does not answer; retrying", refresh=True)
                time.sleep(_EVERY_SECONDS)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
