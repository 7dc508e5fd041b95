"""`schedules`: what is due when, and what people change about it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, NoReturn

import typer
from sqlalchemy import Connection

from spoke_jobs.cli.commands import arguments, parsing
from spoke_jobs.cli.commands.actor import name_of_actor
from spoke_jobs.cli.commands.application import open_application
from spoke_jobs.cli.commands.command_classes import CommandGroup, Consequential, PlainErrors
from spoke_jobs.cli.commands.dispatch_command import with_flags
from spoke_jobs.cli.commands.exits import EPILOG, Exit, fail, reports_errors, usage_error
from spoke_jobs.cli.commands.filter_options import closest
from spoke_jobs.cli.commands.job_actions import confirm
from spoke_jobs.cli.commands.ledger_access import open_ledger
from spoke_jobs.cli.printing import print_note, print_text, print_texts
from spoke_jobs.explain.words import count, line
from spoke_jobs.ledger.notify import Notifier
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.schedules import schedule_rows
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow
from spoke_jobs.model import NewJob
from spoke_jobs.schedules.schedule import OPTION_NAMES, Schedule
from spoke_jobs.schedules.timing import Cron, Every, Misfire, Overlap, in_units
from spoke_jobs.settings import load_settings
from spoke_jobs.type_names import matches

app = typer.Typer(
    cls=CommandGroup,
    epilog=EPILOG,
    no_args_is_help=True,
    help="Schedules: list them, add, pause and remove them, and dispatch their jobs.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.", show_default=False)]
Moment = Annotated[datetime | None, typer.Option(parser=parsing.moment, metavar="TIME", show_default=False)]


@app.command("ls", cls=PlainErrors)
@reports_errors
def ls(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Only this schedule, or all that match a pattern ('nightly_*').", show_default=False
        ),
    ] = None,
    following: Annotated[int, typer.Option("--next", min=1, max=100, help="How many due times to show.")] = 5,
    json: arguments.Json = False,
) -> None:
    """List the schedules: when they are due, in their time zone and in yours, and what became of the last due time.

    If the output is not a terminal, each line has nine fields, separated by tabs.
    """
    engine = open_ledger().engine
    with engine.connect() as connection:
        rows = schedule_rows.read_schedules(connection)
    if name is not None:
        names = [row.name for row in rows]
        rows = [row for row in rows if matches(row.name, name)]
        if not rows:
            what = f"no schedule matches {line(name)!r}" if "*" in name else f"there is no schedule {line(name)!r}"
            fail(f"{what}: `spoke-jobs schedules ls` lists them{closest(name, names)}", Exit.NOT_FOUND)
    now = Queries(engine).now()
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.schedules_json import Schedules

        print_document(Schedules.of(rows, now, following))
        return
    from spoke_jobs.cli.rendering import schedule_output

    if not arguments.on_a_terminal():
        print_texts(schedule_output.schedule_lines(rows, now, following))
    elif rows:
        print_texts(schedule_output.schedule_texts(rows, now, following))
    else:
        print_text("no schedules")


@app.command("add", cls=PlainErrors)
@reports_errors
@with_flags(OPTION_NAMES)
def add(
    name: Name,
    job_type: Annotated[str, typer.Argument(metavar="TYPE", help="The job's type, as SPOKE_APP declares it.")],
    payload: Annotated[
        str | None,
        typer.Option(
            "--payload",
            help="The payload of each job: JSON, @file, or - for standard input.",
            metavar="JSON|@FILE|-",
            show_default=False,
        ),
    ] = None,
    *,
    cron: Annotated[
        str | None,
        typer.Option(help="A cron line: minute, hour, day of the month, month, day of the week.", metavar="LINE"),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(help="The cron line's time zone (UTC by default).", metavar="ZONE", show_default=False),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(parser=parsing.duration, metavar="DURATION", help="An interval: 90s, 5m, 2h or 7d."),
    ] = None,
    misfire: Annotated[
        Misfire, typer.Option(help="What happens to missed due times: skip, once or all.", metavar="RULE")
    ] = Misfire.ONCE,
    overlap: Annotated[
        Overlap,
        typer.Option(help="What happens while an earlier job is unfinished: allow, skip or replace.", metavar="RULE"),
    ] = Overlap.ALLOW,
    jitter: Annotated[
        float | None, typer.Option(parser=parsing.duration, metavar="DURATION", help="Start up to this much later.")
    ] = None,
    start: Moment = None,
    end: Moment = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change the schedule if there is one.")] = False,
    actor: arguments.Actor = None,
    **options: Any,
) -> None:
    """Add a schedule, or change one that was added. A schedule in code is changed there."""
    if (cron is None) == (every is None):
        usage_error("give either --cron or --every")
    rules: dict[str, Any] = {"misfire": misfire, "overlap": overlap, "jitter_seconds": jitter or 0.0}
    rules |= {"start": start, "end": end}
    timing: Cron | Every
    if cron is not None:
        timing = Cron(cron, "UTC" if timezone is None else timezone, **rules)
    else:
        if timezone is not None:
            usage_error("--timezone is the time zone of a --cron line: an interval has none")
        assert every is not None
        if every != int(every):
            usage_error("--every takes whole seconds")
        timing = Every(**(rules | in_units(int(every))))
    try:
        value = parsing.payload(payload, sys.stdin)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--payload") from None
    settings = load_settings()
    registry, runner, by = open_application(settings), settings.job_runner.strip(), name_of_actor(actor)
    schedule, declared = (
        registry.make_schedule(name, job_type, timing, value, options),
        registry.declares_schedule(name),
    )
    engine = open_ledger(settings).engine
    timing.check_due_after(Queries(engine).now())
    with engine.begin() as connection:
        row = schedule_rows.put(connection, runner, schedule, by, replace=replace, declared=declared)
    _done(row, f"{timing.describe()}, next at {row.next_due_at.isoformat()}" if row.next_due_at else "never due again")


@app.command("pause", cls=Consequential)
@reports_errors
def pause(name: Name, actor: arguments.Actor = None) -> None:
    """Let no due time dispatch a job, until `resume`."""
    _change(name, lambda connection: schedule_rows.pause(connection, name, name_of_actor(actor)), "paused")


@app.command("resume", cls=PlainErrors)
@reports_errors
def resume(name: Name, actor: arguments.Actor = None) -> None:
    """Go on with the next due time. `backfill` dispatches the jobs of those in between."""
    _change(name, lambda connection: schedule_rows.resume(connection, name, name_of_actor(actor)), "resumed")


@app.command("run-now", cls=PlainErrors)
@reports_errors
def run_now(name: Name, actor: arguments.Actor = None) -> None:
    """Dispatch one job of the schedule now, also if it is paused. Its due times stay as they are."""
    from spoke_jobs.ledger.schedules import tick_statements

    engine, prepare = _opened()
    with engine.begin() as connection:
        job, new = tick_statements.run_now(connection, _locked(connection, name), prepare, name_of_actor(actor))
    if new:
        _notify(engine)
    else:
        print_note("this job has the schedule's unique_key, so no other one was dispatched")
    if arguments.on_a_terminal():
        print_text(f"job {job.id} ({line(job.job_type)}): {job.state}")
    else:
        print_text(f"{job.id}\t{line(job.job_type)}\t{job.state}")


@app.command("backfill", cls=PlainErrors)
@reports_errors
def backfill(
    name: Name,
    since: Annotated[
        datetime,
        typer.Option(
            "--from",
            parser=parsing.past,
            metavar="TIME",
            help="The first due time or earlier: 2h (ago), or 2026-03-01T08:00Z.",
        ),
    ],
    until: Annotated[
        datetime,
        typer.Option("--to", parser=parsing.past, metavar="TIME", help="The last due time or later."),
    ],
    dry_run: arguments.DryRun = False,
    yes: arguments.Yes = False,
    actor: arguments.Actor = None,
) -> None:
    """Dispatch the jobs of the due times from one time to another. Times whose job is still in the ledger are skipped.

    Neither `misfire` nor `overlap` applies.
    """
    from spoke_jobs.ledger.schedules.backfills import BACKFILL_LIMIT, PeriodProblem, dispatch_parts, read_period

    engine, prepare = _opened()
    with engine.connect() as connection:
        row = _found(schedule_rows.read_schedules(connection, name), name)
        period = read_period(connection, row, since, until)
    if period is PeriodProblem.FUTURE:
        usage_error(f"--to is {until.isoformat()}, in the future")
    if period is PeriodProblem.REVERSED:
        usage_error(f"--to is {until.isoformat()}, and --from is {since.isoformat()}: nothing is between them")
    if period is PeriodProblem.TOO_MANY:
        usage_error(f"there are more than {BACKFILL_LIMIT:,} due times: give a shorter period")
    times, left = period.times, period.left
    if not times:
        print_text("nothing was due in that time")
        return
    shown = [f"{count(len(times), 'due time')} from {times[0].isoformat()} to {times[-1].isoformat()}"]
    if len(left) < len(times):
        shown.append(f"{count(len(times) - len(left), 'due time')} with a job already")
    if not confirm(f"dispatch {count(len(left), 'job')}", shown, dry_run=dry_run, yes=yes or not left):
        return
    jobs = sum(
        dispatch_parts(engine, lambda connection: _locked(connection, name), times, prepare, name_of_actor(actor))
    )
    _notify(engine)
    print_text(f"{count(jobs, 'job')} dispatched" if arguments.on_a_terminal() else f"{jobs}\tdispatched")
    if jobs < len(times):
        or_key = ", or another job has the schedule's unique_key" if row.schedule().options.get("unique_key") else ""
        print_note(f"{count(len(times) - jobs, 'due time')} had a job already{or_key}")


@app.command("rm", cls=Consequential)
@reports_errors
def rm(name: Name, yes: arguments.Yes = False, actor: arguments.Actor = None) -> None:
    """Remove a schedule. Its jobs stay."""
    engine = open_ledger().engine
    with engine.connect() as connection:
        row = _found(schedule_rows.read_schedules(connection, name), name)
    which = [f"the schedule {line(row.name)} of {line(row.job_type)}"]
    if not confirm("remove 1 schedule", which, dry_run=None, yes=yes):
        return
    with engine.begin() as connection:
        if not schedule_rows.remove(connection, name, name_of_actor(actor)):
            _no_such(name)
    _done(row, "removed")


def _opened() -> tuple[Any, Callable[[Schedule, datetime], NewJob]]:
    """Open the ledger and the application, which makes the jobs."""
    from spoke_jobs.runners.ticker import prepare_occurrence

    settings = load_settings()
    registry = open_application(settings)
    runner = settings.job_runner.strip()
    return open_ledger(settings).engine, lambda schedule, due: prepare_occurrence(schedule, due, registry, runner)


def _change(name: str, change: Callable[[Connection], ScheduleRow | None], what: str) -> None:
    with open_ledger().engine.begin() as connection:
        row = change(connection)
    if row is None:
        _no_such(name)
    _done(row, what)


def _locked(connection: Connection, name: str) -> ScheduleRow:
    return _found(schedule_rows.read_schedules(connection, name, lock=True), name)


def _found(rows: list[ScheduleRow], name: str) -> ScheduleRow:
    return rows[0] if rows else _no_such(name)


def _notify(engine: Any) -> None:
    notifier = Notifier(engine)
    notifier.notify()
    notifier.close()


def _done(row: ScheduleRow, what: str) -> None:
    shown = line(row.name)
    print_text(f"schedule {shown}: {what}" if arguments.on_a_terminal() else f"{shown}\t{what}")


def _no_such(name: str) -> NoReturn:
    fail(f"there is no schedule {line(name)!r}: `spoke-jobs schedules ls` lists them", Exit.NOT_FOUND)
