"""`limits`, `pause` and `resume`: what workers and the operator may start."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments, parsing
from spoke_jobs.cli.commands.actor import name_of_actor
from spoke_jobs.cli.commands.command_classes import CommandGroup, Consequential, PlainErrors
from spoke_jobs.cli.commands.exits import EPILOG, Exit, fail, reports_errors, usage_error
from spoke_jobs.cli.commands.filter_options import closest
from spoke_jobs.cli.commands.ledger_access import NEWEST, known_types, open_ledger, open_queries
from spoke_jobs.cli.printing import new_console, print_note, print_text, print_texts
from spoke_jobs.contract.limit_scopes import EXPECTED, Scope, ScopeKind
from spoke_jobs.contract.option_checks import LARGEST_NUMBER
from spoke_jobs.errors import InvalidLimit
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits, limits_of
from spoke_jobs.ledger.notify import Notifier
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import (
    KEEP,
    JobLimit,
    changed_bounds,
    parse_max_running,
    parse_scope,
    still_paused,
    unknown_type,
)
from spoke_jobs.limits.limit_file import APPLIED, applied, left_in_effect, read_entries
from spoke_jobs.model import JobFilter
from spoke_jobs.settings import load_settings

app = typer.Typer(
    cls=CommandGroup,
    epilog=EPILOG,
    no_args_is_help=True,
    help="The limits, rates and pauses that workers and the operator obey (docs/how-to/limits.md).",
)
_NONE = "none"


def _scope(text: str) -> Scope:
    try:
        return parse_scope(text)
    except InvalidLimit as error:
        raise typer.BadParameter(str(error)) from None


def _number(text: str) -> int | None:
    try:
        return parse_max_running(text)
    except InvalidLimit as error:
        raise typer.BadParameter(str(error), param_hint="--max-running") from None


ScopeName = Annotated[
    Scope,
    typer.Argument(
        parser=_scope,
        metavar="SCOPE",
        help=f"{EXPECTED}.",
        show_default=False,
    ),
]


@app.command("ls", cls=PlainErrors)
@reports_errors
def ls(json: arguments.Json = False) -> None:
    """List limits, rates and pauses, each with the number of jobs that run in its scope.

    If the output is not a terminal, each line has six fields, separated by tabs.
    """
    queries = open_queries()
    found = queries.limits()
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.counts_json import LimitList

        print_document(LimitList.of(found))
        return
    from spoke_jobs.cli.rendering import limit_output

    if not arguments.on_a_terminal():
        print_texts(limit_output.limit_lines(found, queries.now()))
    elif not found:
        print_text("no limits")
    else:
        new_console().print(limit_output.limit_table(found, queries.now()))


@app.command("set", cls=PlainErrors)
@reports_errors
def set_limit(
    scope: ScopeName,
    max_running: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="The most attempts of the scope at a time; none for any number.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="How many attempts may start: 5/s, 100/min, 10/30s; none for any number.",
            show_default=False,
        ),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(help="How many may start at once after a quiet time (1 by default).", show_default=False),
    ] = None,
    actor: arguments.Actor = None,
) -> None:
    """Change a limit. What is not given stays as it is. It is obeyed at once, and a deploy does not undo it.

    With a scope like each-queue, both bounds are those of each queue.
    """
    if max_running is None and rate is None and burst is None:
        usage_error("give --max-running, --rate or --burst")
    most = KEEP if max_running is None else _number(max_running)
    pace = KEEP if rate is None else None if rate == _NONE else rate
    size = KEEP if burst is None else burst
    ledger, limits = _open()
    limit = limits.set(scope, lambda old: changed_bounds(old, most, pace, size), name_of_actor(actor))
    _wake(ledger)
    _say(scope, _after(limit))
    _warn_of_unknown_name(ledger, scope)


@app.command("apply", cls=Consequential)
@reports_errors
def apply(
    file: Annotated[
        str,
        typer.Option("--file", "-f", metavar="FILE", help="YAML or JSON; - for standard input.", show_default=False),
    ],
    prune: Annotated[
        bool, typer.Option("--prune", help="Also remove what an earlier file declared and this one does not.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the changes, and make none.")] = False,
    actor: arguments.Actor = None,
) -> None:
    """Store the limits and pauses of a file, and print what changes.

    The file is a list of limits, each with `scope` and some of `max_running`, `rate`, `burst` and `paused`. They win
    over limits that the code declares. What somebody set with `limits set` stays in effect until it is reset.
    """
    from spoke_jobs.cli.commands.limit_input import read_file

    entries = read_entries(read_file(file, sys.stdin))
    ledger, limits = _open()
    by = name_of_actor(actor)
    if dry_run:
        changes = applied(limits.all(), entries, Queries(ledger.engine).now(), by=by, prune=prune)
    else:
        changes = limits.apply(entries, by, prune=prune)
    for change in changes:
        _say(change.after.scope, str(change))
    if not changes:
        print_note("nothing to change")
    elif not dry_run:
        _wake(ledger)
    for note in left_in_effect(limits.all(), changes, entries, datetime.now(UTC), prune=prune):
        print_note(note)
    for entry in entries:
        _warn_of_unknown_name(ledger, entry.scope)


@app.command("reset", cls=Consequential)
@reports_errors
def reset(scope: ScopeName, actor: arguments.Actor = None) -> None:
    """Return a limit to what the application's code or an applied file declares, or remove it. A pause stays."""
    ledger, limits = _open()
    if all(limit.scope != scope for limit in limits.all()):
        fail(f"there is no limit {scope}: `spoke-jobs limits ls` lists them", Exit.NOT_FOUND)
    limit = limits.reset(scope, name_of_actor(actor))
    _wake(ledger)
    _say(scope, _after(limit))
    if limit is not None and limit.default is not None:
        by = "a file that was applied" if limit.declared_by == APPLIED else f"the code of {line(limit.declared_by)}"
        print_note(f"this is what {by} declares")


@reports_errors
def pause(
    scope: ScopeName,
    reason: Annotated[str, typer.Option(help="Why; shown on each job that it holds back.", show_default=False)],
    until: Annotated[
        datetime | None,
        typer.Option(
            parser=parsing.moment,
            metavar="TIME",
            help="End the pause by itself: +2h (from now), or 2026-03-01T08:00Z.",
            show_default=False,
        ),
    ] = None,
    actor: arguments.Actor = None,
) -> None:
    """Let no job of a scope start. Running jobs go on."""
    ledger, limits = _open()
    limits.pause(scope, reason, name_of_actor(actor), until)
    _wake(ledger)
    _say(scope, "paused")
    _warn_of_unknown_name(ledger, scope)


@reports_errors
def resume(
    paused: Annotated[
        list[str],
        typer.Argument(
            metavar="SCOPE|ID",
            help="A scope as of `spoke-jobs pause`, or the ids of suspended jobs.",
            show_default=False,
        ),
    ],
    actor: arguments.Actor = None,
) -> None:
    """End the pause of a scope, or let suspended jobs start again."""
    if all(text.isascii() and text.isdigit() for text in paused):
        from spoke_jobs.cli.commands.start_commands import resume_jobs

        resume_jobs(open_ledger(), [arguments.parse_id(text) for text in paused], name_of_actor(actor))
        return
    if len(paused) > 1:
        usage_error("give one scope, or the ids of suspended jobs")
    scope = _scope(paused[0])
    ledger, limits = _open()
    if not limits.resume(scope, name_of_actor(actor)):
        fail(f"{scope} is not paused: `spoke-jobs limits ls` lists the pauses", Exit.NOT_FOUND)
    _wake(ledger)
    _say(scope, "resumed")


def _open() -> tuple[SqlLedger, SqlLimits]:
    """Open the ledger, and its limits. Under `kubernetes` they refuse what the operator does not obey."""
    settings = load_settings()
    ledger = open_ledger(settings)
    return ledger, limits_of(ledger.engine, settings.job_runner.strip())


def _wake(ledger: SqlLedger) -> None:
    notifier = Notifier(ledger.engine)
    notifier.notify()
    notifier.close()


def _after(limit: JobLimit | None) -> str:
    """Say what a change of bounds leaves."""
    if limit is None:
        return "no limit"
    return f"{limit.bounds}{still_paused(limit.paused_at(datetime.now(UTC)))}"


def _say(scope: Scope, what: str) -> None:
    name = line(str(scope))
    print_text(f"{name}: {what}" if arguments.on_a_terminal() else f"{name}\t{what}")


def _warn_of_unknown_name(ledger: SqlLedger, scope: Scope) -> None:
    """Say that nothing has the name of a scope: it may be mistyped. Jobs with that name may still come."""
    problem = ""
    if scope.kind is ScopeKind.TYPE:
        names = known_types(Queries(ledger.engine))
        problem = unknown_type(scope, names) if names else ""
    elif scope.kind in (ScopeKind.QUEUE, ScopeKind.ORGANIZATION):
        problem = _unknown_in_ledger(ledger, scope)
    if problem:
        print_note(f"warning: {problem}")


def _unknown_in_ledger(ledger: SqlLedger, scope: Scope) -> str:
    """Return what to say about a queue or an organization of which there is no job; empty without any job."""
    newest = ledger.list_jobs(NEWEST)
    if scope.kind is ScopeKind.QUEUE:
        if not newest or ledger.list_jobs(1, JobFilter(queue_name=scope.name)):
            return ""
        queues = {job.queue_name for job in newest} - {""}
        return f"no stored job is in the queue {scope.name!r}{closest(scope.name, queues)}"
    number = int(scope.name)
    if not newest or (number <= LARGEST_NUMBER and ledger.list_jobs(1, JobFilter(organization_id=number))):
        return ""
    return f"no stored job is of the organization {number}"
