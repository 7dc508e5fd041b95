"""`show`: everything that is known about one job."""

from __future__ import annotations

from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import fail_not_found, reports_errors
from spoke_jobs.cli.commands.ledger_access import cluster_view, open_queries


@reports_errors
def show(
    job_id: arguments.Id,
    payload: Annotated[bool, typer.Option("--payload", help="Show the payload as well.")] = False,
    json: arguments.Json = False,
) -> None:
    """Show a job: its row, its options, its attempts with pods and nodes, and the last lines of its output.

    For a job of the runner `kubernetes` the cluster is asked too. If it can't be reached, the output says why.
    """
    ledger, queries = open_queries()
    job = ledger.get(job_id)
    if job is None:
        fail_not_found(job_id)
    attempts = ledger.attempts(job_id)
    cluster = cluster_view(job, around=False)
    if json:
        from spoke_jobs.cli.rendering.json_output import Shown, print_document

        print_document(Shown.of(job, attempts, cluster, with_payload=payload))
        return
    from spoke_jobs.cli.rendering.job_details import details, print_details, print_plain

    shown = details(job, attempts, queries.now(), cluster, with_payload=payload)
    (print_details if arguments.on_a_terminal() else print_plain)(shown)
