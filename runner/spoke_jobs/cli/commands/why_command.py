"""`why`: what jobs wait for, how they run, or why they ended."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from spoke_jobs.cli.commands import arguments, parsing
from spoke_jobs.cli.commands.exits import fail, fail_not_found, reports_errors, usage_error
from spoke_jobs.cli.commands.filter_options import selects_jobs
from spoke_jobs.cli.commands.ledger_access import cluster_view, open_queries, refuse_unknown_names
from spoke_jobs.cli.printing import print_texts
from spoke_jobs.errors import DatabaseUnreachable
from spoke_jobs.model import ANY_JOB, JobFilter
from spoke_jobs.settings import load_settings

if TYPE_CHECKING:
    from spoke_jobs.ledger.reading.queries import Queries

_RECENT_SECONDS = 86_400.0


@reports_errors
@selects_jobs("state", "batch", "lane")
def why(
    job_id: Annotated[
        int | None, typer.Argument(parser=arguments.parse_id, metavar="ID", help="The job's id.", show_default=False)
    ] = None,
    which: JobFilter = ANY_JOB,
    failed_within: Annotated[
        float | None,
        typer.Option(
            parser=parsing.duration,
            metavar="DURATION",
            help="Without an id: how long ago a job may have failed (1h, 7d); a day by default.",
            show_default=False,
        ),
    ] = None,
    json: arguments.Json = False,
) -> None:
    """Explain what a job waits for, how it runs, or why it ended, from the ledger and, if reachable, the cluster.

    Without an id, group all waiting and recently failed jobs, or those that match the filters, by reason, with one
    action for each group. Schedules whose due times dispatched no job follow, unless there are filters.
    """
    if job_id is not None and which != ANY_JOB:
        usage_error("filters are for all jobs; leave out the id")
    try:
        queries = open_queries()
    except DatabaseUnreachable as error:
        fail(f"{error}{'' if job_id is None else _what_the_cluster_knows(job_id)}")
    if job_id is None:
        if failed_within == 0:
            usage_error("--failed-within must be longer than 0 s")
        period = _RECENT_SECONDS if failed_within is None else failed_within
        _print_groups(queries, period, which, json)
        return
    if failed_within is not None:
        usage_error("--failed-within is for all jobs; leave out the id")
    _print_job(queries, job_id, json)


def _print_groups(queries: Queries, period_seconds: float, which: JobFilter, json: bool) -> None:
    from spoke_jobs.cli.commands.job_groups import find_groups
    from spoke_jobs.cli.rendering import schedule_output
    from spoke_jobs.cli.rendering.groups_output import group_lines, print_groups
    from spoke_jobs.explain.schedules_json import ScheduleProblem, schedule_problems
    from spoke_jobs.ledger.schedules.schedule_rows import read_schedules

    found, now, incomplete = find_groups(queries, period_seconds, which)
    if not found:
        refuse_unknown_names(queries, which)
    schedules: list[ScheduleProblem] = []
    if which == ANY_JOB:
        with queries.engine.connect() as connection:
            rows = read_schedules(connection)
        schedules = list(schedule_problems(rows, now, period_seconds))
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.groups_json import ReasonGroups

        print_document(ReasonGroups.of(found, period_seconds, schedules, incomplete))
    elif arguments.on_a_terminal():
        print_groups(found, period_seconds, now)
        print_texts(schedule_output.problem_texts(schedules))
    else:
        print_texts([*group_lines(found, now), *schedule_output.problem_lines(schedules, now)])


def _print_job(queries: Queries, job_id: int, json: bool) -> None:
    from spoke_jobs.explain.why import explain, is_explained_by_cluster

    situation = queries.situation(job_id)
    if situation is None:
        fail_not_found(job_id)
    job = situation.job
    if job.state.final:
        cluster = cluster_view(job, around=False) if is_explained_by_cluster(job) else None
    else:
        cluster = cluster_view(job)
    explanation = explain(replace(situation, now=situation.now.astimezone()), cluster)  # in the terminal's time zone
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.json_output import Explained

        print_document(Explained.of(situation.job, explanation))
        return
    from spoke_jobs.cli.rendering.why_output import plain_lines, print_explanation

    if arguments.on_a_terminal():
        print_explanation(situation.job, explanation)
    else:
        print_texts(plain_lines(explanation))


def _what_the_cluster_knows(job_id: int) -> str:
    """Say where to look while the database is away; empty outside a cluster."""
    if not load_settings().namespace:
        return ""
    return f". `kubectl get spokejobs` shows the cluster's view: the job's SpokeJob is the one named TYPE-{job_id}-UID"
