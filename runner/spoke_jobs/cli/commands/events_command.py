"""`events`: who cancelled, retried or deleted what, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments, filter_options
from spoke_jobs.cli.commands.exits import reports_errors
from spoke_jobs.cli.commands.ledger_access import open_queries, refuse_unknown_names
from spoke_jobs.cli.printing import new_console, print_text, print_texts
from spoke_jobs.ledger.audit.audit_events import Action, EventFilter
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.model import JobFilter

_NEWEST = 1000
"""How many of the newest events are read to find users that resemble a mistyped one."""


@reports_errors
def events(
    job_id: Annotated[
        int | None,
        typer.Option("--job", parser=arguments.parse_id, metavar="ID", help="Only this job's.", show_default=False),
    ] = None,
    action: Annotated[
        Action | None,
        typer.Option(
            help="Only this action: cancel, retry, prune, 'pause schedule', ...", metavar="ACTION", show_default=False
        ),
    ] = None,
    actor: Annotated[str | None, filter_options.pattern("--by", "what this user did", "ada@*")] = None,
    job_type: Annotated[str | None, filter_options.pattern("--type", "events of jobs of this type", "sync_*")] = None,
    since: Annotated[datetime | None, filter_options.since("events")] = None,
    until: Annotated[datetime | None, filter_options.until("events")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many events to list, the newest first.")] = 20,
    json: arguments.Json = False,
) -> None:
    """List who cancelled, retried or deleted jobs, or changed batches, limits, schedules or mutes.

    Events are kept for a year.

    What somebody does with kubectl is in the cluster's audit log instead. If the output is not a terminal, each line
    has six fields, separated by tabs.
    """
    filter_options.check_period(since, until)
    queries = open_queries()
    found = queries.events(limit, EventFilter(job_id, action, actor, job_type, since, until))
    if not found:
        _refuse_unknown(queries, actor, job_type)
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.counts_json import Events

        print_document(Events.of(found))
        return
    from spoke_jobs.cli.rendering import event_output

    if not arguments.on_a_terminal():
        print_texts(event_output.event_lines(found))
        return
    if not found:
        print_text("no events match the filters" if queries.events(1) else "no events")
        return
    new_console().print(event_output.event_table(found, queries.now()))


def _refuse_unknown(queries: Queries, actor: str | None, job_type: str | None) -> None:
    """Refuse a user without events, and a type that no event, no job and no declaration has."""
    if actor is not None and not queries.events(1, EventFilter(actor=actor)):
        filter_options.refuse_name(
            actor, lambda: {event.actor for event in queries.events(_NEWEST)}, "user", "no event is by {}", "--by"
        )
    if job_type is not None and not queries.events(1, EventFilter(job_type=job_type)):
        refuse_unknown_names(queries, JobFilter(job_type=job_type))
