"""The commands that look: `ls`, `show`, `why`."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import Exit, fail, speaks_plainly
from spoke_jobs.cli.commands.opening import look
from spoke_jobs.cli.explaining.reasons import CLUSTER
from spoke_jobs.model import ANY_JOB, JobState
from spoke_jobs.settings import load_settings

if TYPE_CHECKING:
    from spoke_jobs.cluster.cluster_view import ClusterView
    from spoke_jobs.model import JobRequest


@speaks_plainly
def ls(
    state: arguments.States = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed jobs: --state failed.")] = False,
    job_type: arguments.Type = None,
    queue: arguments.Queue = None,
    organization: arguments.Organization = None,
    campaign: arguments.Campaign = None,
    cause: arguments.CauseName = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many jobs, the newest.")] = 20,
    json: arguments.Json = False,
) -> None:
    """List the newest jobs. Without a terminal: a line for each, its ten fields separated by tabs."""
    states = [*(state or ()), *([JobState.FAILED] if failed else ())]
    ledger, looking = look()
    which = arguments.job_filter(states, job_type, queue, organization, campaign, cause)
    jobs = ledger.list_jobs(limit, which)
    if json:
        from spoke_jobs.cli.rendering.json_output import Jobs, print_document

        print_document(Jobs.of(jobs))
        return
    from spoke_jobs.cli.rendering import job_table

    now = looking.now()
    if not arguments.on_a_terminal():
        print(*job_table.job_lines(jobs, now), sep="\n", end="\n" if jobs else "")
        return
    from rich.console import Console

    if not jobs:
        print("no such jobs" if which != ANY_JOB else "no jobs")
        return
    console = Console(highlight=False)
    console.print(job_table.job_table(jobs, now, ages=True, width=console.width))
    if len(jobs) == limit:
        typer.secho(f"the newest {limit}: --limit shows more", dim=True)


@speaks_plainly
def show(
    job_id: arguments.Id,
    payload: Annotated[bool, typer.Option("--payload", help="Show the payload, too.")] = False,
    json: arguments.Json = False,
) -> None:
    """Show a job: its row, its options, its attempts with pods and nodes, and the last lines of its output.

    The cluster is asked where it is at hand, and what it could not be asked is said.
    """
    ledger, looking = look()
    job = ledger.get(job_id)
    if job is None:
        not_found(job_id)
    attempts = ledger.attempts(job_id)
    cluster = in_the_cluster(job, around=False)
    if json:
        from spoke_jobs.cli.rendering.json_output import Shown, print_document

        print_document(Shown.of(job, attempts, cluster, with_payload=payload))
        return
    from spoke_jobs.cli.rendering.job_details import details, print_details, print_plain

    shown = details(job, attempts, looking.now(), cluster, with_payload=payload)
    (print_details if arguments.on_a_terminal() else print_plain)(shown)


@speaks_plainly
def why(job_id: arguments.Id, json: arguments.Json = False) -> None:
    """Say what a job waits for, how it runs, or why it ended: from the ledger, and the cluster where it is at hand."""
    from spoke_jobs.cli.explaining.why import explain

    _, looking = look()
    situation = looking.situation(job_id)
    if situation is None:
        not_found(job_id)
    explanation = explain(situation, None if situation.job.state.final else in_the_cluster(situation.job))
    if json:
        from spoke_jobs.cli.rendering.json_output import Explained, print_document

        print_document(Explained.of(situation.job, explanation))
        return
    from spoke_jobs.cli.rendering.why_output import plain_lines, print_explanation

    if arguments.on_a_terminal():
        print_explanation(situation.job, explanation)
    else:
        print(*plain_lines(explanation), sep="\n")


def in_the_cluster(job: JobRequest, *, around: bool = True) -> ClusterView | None:
    """What the cluster says of it; None where that is no question."""
    if job.runner != CLUSTER or importlib.util.find_spec("kubernetes") is None:
        return None
    from spoke_jobs.cluster.spokejob_reads import read_cluster_view

    return read_cluster_view(job, load_settings().namespace, around=around)


def not_found(job_id: int) -> NoReturn:
    """There is no such job."""
    fail(f"there is no job {job_id}: it was pruned, or it is in another database", Exit.NOT_FOUND)
