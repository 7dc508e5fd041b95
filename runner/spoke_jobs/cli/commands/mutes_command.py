"""`mutes`: about which failures nobody wants notices."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments, parsing
from spoke_jobs.cli.commands.actor import name_of_actor
from spoke_jobs.cli.commands.command_classes import CommandGroup, Consequential, PlainErrors
from spoke_jobs.cli.commands.exits import EPILOG, Exit, fail, reports_errors, usage_error
from spoke_jobs.cli.commands.ledger_access import open_ledger, open_queries
from spoke_jobs.cli.printing import new_console, print_note, print_text, print_texts
from spoke_jobs.errors import InvalidMute
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.notices import mute_rows
from spoke_jobs.ledger.notices.notice_values import Mute, NewMute
from spoke_jobs.model import JobFilter, JobState

app = typer.Typer(
    cls=CommandGroup,
    epilog=EPILOG,
    no_args_is_help=True,
    help="Failures about which `spoke-jobs notify` sends nothing for a while (docs/how-to/notify.md).",
)


@app.command("ls", cls=PlainErrors)
@reports_errors
def ls(json: arguments.Json = False) -> None:
    """List the mutes that have not ended.

    If the output is not a terminal, each line has six fields, separated by tabs.
    """
    queries = open_queries()
    now = queries.now()
    with queries.engine.connect() as connection:
        mutes = mute_rows.current_mutes(connection)
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.mutes_json import Mutes

        print_document(Mutes.of(mutes))
        return
    from spoke_jobs.cli.rendering import mute_output

    if not arguments.on_a_terminal():
        print_texts(mute_output.mute_lines(mutes))
    elif not mutes:
        print_text("no mutes")
    else:
        new_console().print(mute_output.mute_table(mutes, now))


@app.command("add", cls=Consequential)
@reports_errors
def add(
    reason: Annotated[str, typer.Option(help="Why; `mutes ls` shows it.", show_default=False)],
    until: Annotated[
        datetime,
        typer.Option(
            parser=parsing.moment,
            metavar="TIME",
            help="When the mute ends: +2d (from now), or 2026-03-01T08:00Z.",
            show_default=False,
        ),
    ],
    fingerprint: Annotated[
        str | None,
        typer.Option(
            help="Failures with this exception at this place, as notices and `spoke-jobs why` print it.",
            show_default=False,
        ),
    ] = None,
    job_type: Annotated[
        str | None,
        typer.Option(
            "--type", help="Failures of this type, or of all that match a pattern ('sync_*').", show_default=False
        ),
    ] = None,
    cause: Annotated[
        str | None, typer.Option(help="Failures with this cause: JobError, Timeout, ...", show_default=False)
    ] = None,
    actor: arguments.Actor = None,
) -> None:
    """Send no notices about some failures. If several options are given, the failures must match all of them."""
    try:
        new = NewMute(job_type=job_type, cause=cause, fingerprint=fingerprint, until=until, reason=line(reason))
        ledger = open_ledger()
        with ledger.engine.begin() as connection:
            mute = mute_rows.add_mute(connection, new, name_of_actor(actor))
    except InvalidMute as error:
        usage_error(str(error))
    print_text(_said(mute, "muted"))
    which = JobFilter(states=(JobState.FAILED,), job_type=job_type, cause=cause, fingerprint=fingerprint)
    if not ledger.list_jobs(1, which):
        print_note("warning: no failed job in the ledger matches: is a name mistyped?")


@app.command("end", cls=PlainErrors)
@reports_errors
def end(
    mute_id: Annotated[
        int, typer.Argument(parser=arguments.parse_id, metavar="ID", help="The mute's id.", show_default=False)
    ],
    actor: arguments.Actor = None,
) -> None:
    """End a mute. Failures from now on are reported again."""
    with open_ledger().engine.begin() as connection:
        mute = mute_rows.end_mute(connection, mute_id, name_of_actor(actor))
    if mute is None:
        fail(f"there is no mute {mute_id}: `spoke-jobs mutes ls` lists them", Exit.NOT_FOUND)
    print_text(_said(mute, "ended"))


def _said(mute: Mute, done: str) -> str:
    about = line(mute.about())
    return f"mute {mute.id} ({about}): {done}" if arguments.on_a_terminal() else f"{mute.id}\t{about}\t{done}"
