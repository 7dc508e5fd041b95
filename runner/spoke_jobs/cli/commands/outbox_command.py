"""`outbox`: the tasks that were dispatched in transactions and have not run yet, or failed (`kubernetes`)."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated

import typer

from spoke_jobs.cli.commands import arguments, filter_options
from spoke_jobs.cli.commands.actor import name_of_actor
from spoke_jobs.cli.commands.command_classes import CommandGroup, PlainErrors
from spoke_jobs.cli.commands.exits import EPILOG, Exit, fail, reports_errors, usage_error
from spoke_jobs.cli.commands.job_actions import Result, confirm, for_each
from spoke_jobs.cli.commands.ledger_access import declared_names, open_ledger
from spoke_jobs.cli.printing import new_console, print_text, print_texts
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.explain.changes import first_few
from spoke_jobs.explain.words import count, line
from spoke_jobs.ledger.notify import TASKS_CHANNEL, Notifier
from spoke_jobs.ledger.outbox.outbox_queries import ANY_TASK, OutboxQueries, SelectedTask, TaskFilter
from spoke_jobs.ledger.outbox_row import TaskState

app = typer.Typer(
    cls=CommandGroup,
    epilog=EPILOG,
    no_args_is_help=True,
    help="Tasks that were dispatched in a transaction and wait, run or have failed (`kubernetes`).",
)
_BATCH = 500
_NEWEST = 1000
"""How many of the newest tasks are read to find names that resemble a mistyped one."""

States = Annotated[
    list[TaskState] | None,
    typer.Option(
        "--state", help="Only tasks in this state (due, later, claimed, failed); may be repeated.", metavar="STATE"
    ),
]
Name = Annotated[str | None, filter_options.pattern("--name", "tasks of this name", "send_*")]
Since = Annotated[datetime | None, filter_options.since("tasks dispatched")]
Until = Annotated[datetime | None, filter_options.until("tasks dispatched")]
CauseName = Annotated[
    str | None,
    typer.Option("--cause", help="Only tasks with this cause: TaskError, Timeout, ...", show_default=False),
]


@app.command("ls", cls=PlainErrors)
@reports_errors
def ls(
    state: States = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed tasks; short for --state failed.")] = False,
    name: Name = None,
    cause: CauseName = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many tasks to list, the newest first.")] = 20,
    json: arguments.Json = False,
) -> None:
    """List the outbox's newest tasks, and count them by state. A task that has run is not in the outbox any more.

    If the output is not a terminal, each line has seven fields, separated by tabs.
    """
    states = (*(state or ()), *([TaskState.FAILED] if failed else ()))
    which = _filter(states or None, name, cause, since, until)
    queries = OutboxQueries(open_ledger().engine)
    tasks, counts = queries.tasks(which, limit), queries.counts()
    if not tasks:
        _refuse_unknown(queries, which)
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.counts_json import OutboxTasks

        print_document(OutboxTasks.of(counts, tasks))
        return
    from spoke_jobs.cli.rendering import outbox_output

    if not arguments.on_a_terminal():
        print_texts(outbox_output.task_lines(tasks, queries.now()))
        return
    if tasks:
        new_console().print(outbox_output.task_table(tasks, queries.now()))
    print_text(outbox_output.counts_text(counts), dim=bool(tasks))


@app.command("show", cls=PlainErrors)
@reports_errors
def show(
    task_id: arguments.TaskId,
    payload: Annotated[bool, typer.Option("--payload", help="Show the payload as well.")] = False,
    json: arguments.Json = False,
) -> None:
    """Show one task of the outbox."""
    queries = OutboxQueries(open_ledger().engine)
    task = queries.task(task_id)
    if task is None:
        fail(_no_such_task(task_id), Exit.NOT_FOUND)
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.counts_json import OutboxTask

        print_document(OutboxTask.of(task, with_payload=payload))
        return
    from spoke_jobs.explain.task_details import task_facts, task_payload

    found = task_facts(task, queries.now())
    if payload:
        found.append(("payload", task_payload(task)))
    width = max(len(name) for name, _ in found) + 2
    for name, value in found:
        print_text(f"{name:<{width}}{value}" if arguments.on_a_terminal() else f"{name}\t{value}")


@app.command("replicas", cls=PlainErrors)
@reports_errors
def replicas(json: arguments.Json = False) -> None:
    """List the replicas of the task deployment that have claimed tasks of the outbox, and how many each has.

    An idle replica has no claims and is not listed. Nor are tasks that came over HTTP: their counts are in the metrics
    of each replica. If the output is not a terminal, each line has four fields, separated by tabs.
    """
    queries = OutboxQueries(open_ledger().engine)
    found = queries.replicas()
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.counts_json import OutboxReplicas

        print_document(OutboxReplicas.of(found))
        return
    from spoke_jobs.cli.rendering import outbox_output

    if not arguments.on_a_terminal():
        print_texts(outbox_output.replica_lines(found, queries.now()))
    elif found:
        new_console().print(outbox_output.replica_table(found, queries.now()))
    else:
        print_text("no replica has claimed a task")


@app.command("retry", cls=PlainErrors)
@reports_errors
def retry(
    task_ids: arguments.TaskIds = None,
    failed: Annotated[bool, typer.Option("--failed", help="All failed tasks that match the filters.")] = False,
    name: Name = None,
    cause: CauseName = None,
    since: Since = None,
    until: Until = None,
    dry_run: arguments.DryRunOfFilters = False,
    yes: arguments.Yes = False,
    actor: arguments.Actor = None,
) -> None:
    """Run failed tasks again, each with all its attempts. Give the tasks' ids, or --failed."""
    if bool(task_ids) == failed:
        usage_error("give task ids, or --failed (with or without filters)")
    which = _filter((TaskState.FAILED,), name, cause, since, until)
    if task_ids and which != TaskFilter((TaskState.FAILED,)):
        usage_error("filters need --failed; they can't be combined with ids")
    if task_ids and dry_run:
        usage_error("--dry-run can't be combined with ids: it shows what filters select")
    engine = open_ledger().engine
    queries = OutboxQueries(engine)
    if task_ids:
        ids = arguments.each_once(task_ids)
    else:
        selected = queries.selected(which)
        ids = [task.id for task in selected]
        if not ids:
            _refuse_unknown(queries, which)
            print_text("no failed tasks match the filters")
            return
        if not confirm(f"retry {count(len(ids), 'task')}", _kinds(selected), dry_run=dry_run, yes=yes):
            return
    retried: set[int] = set()
    by = name_of_actor(actor)
    for start in range(0, len(ids), _BATCH):
        retried |= queries.retry(ids[start : start + _BATCH], by)
    notifier = Notifier(engine, TASKS_CHANNEL)
    if retried:
        notifier.notify()
    notifier.close()
    for_each(ids, lambda task_id: _result(queries, task_id, done=task_id in retried))


def _result(queries: OutboxQueries, task_id: int, *, done: bool) -> Result:
    if done:
        return Exit.DONE, f"task {task_id}: due" if arguments.on_a_terminal() else f"{task_id}\tdue"
    task = queries.task(task_id)
    if task is None:
        return Exit.NOT_FOUND, _no_such_task(task_id)
    return Exit.FAILED, f"task {task_id} is {task.state}: only a failed task can be retried"


def _filter(
    states: tuple[TaskState, ...] | None,
    name: str | None,
    cause: str | None,
    since: datetime | None,
    until: datetime | None,
) -> TaskFilter:
    filter_options.check_period(since, until)
    return TaskFilter(states, name, cause, since, until)


def _refuse_unknown(queries: OutboxQueries, which: TaskFilter) -> None:
    """Refuse a name that no task of the outbox and no declared one has, and an unknown cause."""
    if which.cause is not None and not queries.tasks(TaskFilter(cause=which.cause), 1):
        filter_options.check_cause(which.cause, {*CAUSES, *TaskCause})
    if which.name is not None and not queries.tasks(TaskFilter(name=which.name), 1):
        filter_options.refuse_name(
            which.name,
            lambda: {task.name for task in queries.tasks(ANY_TASK, _NEWEST)} | declared_names(lambda app: app.tasks),
            "name",
            "no task of the outbox has {}, and the application declares none",
            "--name",
        )


def _kinds(selected: list[SelectedTask]) -> list[str]:
    names = Counter(task.name for task in selected).most_common()
    return first_few([f"{count(number, 'failed task')} of the name {line(name)}" for name, number in names], "names")


def _no_such_task(task_id: int) -> str:
    from spoke_jobs.explain.task_details import NO_SUCH_TASK

    return f"there is no task {task_id} {NO_SUCH_TASK}"
