"""`show`: everything that is known about one job."""

from __future__ import annotations

from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import fail_not_found, reports_errors
from spoke_jobs.cli.commands.ledger_access import cluster_view, open_ledger
from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.job_batch import BatchFilter
from spoke_jobs.ledger.reading.queries import Queries

_EVENTS = 10
"""How many of the newest events of the job are shown."""


@reports_errors
def show(
    job_id: arguments.Id,
    payload: Annotated[bool, typer.Option("--payload", help="Show the payload as well.")] = False,
    json: arguments.Json = False,
) -> None:
    """Show a job: its row, its options, what it depends on, what it saved, its attempts with pods and nodes, and its
    last output.

    For a job of the runner `kubernetes`, its SpokeJob is read too. If that fails, the output says why.
    """
    ledger = open_ledger()
    queries = Queries(ledger.engine)
    job = ledger.get(job_id) if payload else next(iter(queries.jobs([job_id])[1]), None)
    if job is None:
        fail_not_found(job_id)
    (job,) = queries.with_cancellers([job])
    attempts = queries.attempts(job_id)
    reports = queries.reports(job_id)
    events = queries.events(_EVENTS, EventFilter(job_id=job_id))
    saved = queries.saved(job_id)
    links = queries.links(job_id)
    cluster = cluster_view(job, around=False)
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.json_output import Shown

        print_document(Shown.of(job, attempts, cluster, reports, saved, links, with_payload=payload))
        return
    from spoke_jobs.cli.rendering.details_output import print_details, print_plain
    from spoke_jobs.explain.job_details import details

    hint = "--payload shows it"
    shown = details(
        job,
        attempts,
        queries.now(),
        cluster,
        reports,
        events,
        saved,
        links,
        follows=next(iter(ledger.batches(1, BatchFilter(then_id=job_id))), None),
        with_payload=payload,
        payload_hint=hint,
    )
    (print_details if arguments.on_a_terminal() else print_plain)(shown)
