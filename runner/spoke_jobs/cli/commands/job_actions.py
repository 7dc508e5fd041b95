"""Shared by `cancel`, `retry` and `prune`: ask, act on each job, print a line for each, exit with the worst result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

import typer
from sqlalchemy.exc import DBAPIError

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import LOCKED, Exit, no_such_job, usage_error
from spoke_jobs.cli.printing import print_error, print_note, print_text
from spoke_jobs.errors import DependencyNotMet
from spoke_jobs.explain.changes import Change, kinds_of
from spoke_jobs.explain.words import count, line
from spoke_jobs.ledger.engine import is_locked
from spoke_jobs.ledger.many_jobs import in_turn
from spoke_jobs.ledger.reading.queries import SelectedJob
from spoke_jobs.model import JobRequest

Result = tuple[Exit, str]
"""The exit code for one job, and the line to print."""


def for_each(job_ids: list[int], act: Callable[[int], Result]) -> None:
    """Act on each job and print its result. A job that is refused because another one has failed comes after the rest.

    :raises typer.Exit: with the highest code, unless every job is done.
    """

    def unless_locked(job_id: int) -> Result:
        try:
            return act(job_id)
        except DBAPIError as error:
            if not is_locked(error):
                raise
            return Exit.FAILED, f"job {job_id}: {LOCKED}"

    worst = Exit.DONE
    for _, result in in_turn(job_ids, unless_locked):
        code, text = (Exit.FAILED, str(result)) if isinstance(result, DependencyNotMet) else result
        worst = max(worst, code)
        (print_text if code is Exit.DONE else print_error)(text)
    if worst is not Exit.DONE:
        raise typer.Exit(worst)


def confirm_each(verb: str, selected: Sequence[SelectedJob], *, dry_run: bool, yes: bool) -> bool:
    """Say how many jobs of each type and state the command would act on, and ask whether to do it.

    :param verb: what the command does, as in ``cancel``.
    :return: whether to go on.
    """
    if not selected:
        print_text("no jobs match the filters")
        return False
    return confirm(f"{verb} {count(len(selected), 'job')}", kinds_of(selected), dry_run=dry_run, yes=yes)


def confirm(action: str, details: Iterable[str], *, dry_run: bool | None, yes: bool) -> bool:
    """Print what the command would do, and ask whether to do it. Return False for a dry run or the answer "no".

    :param action: what it does, as in ``cancel 3 jobs``.
    :param dry_run: None if the command has no such option.
    :raises typer.BadParameter: if there is nobody to ask.
    """
    if yes and not dry_run:
        return True
    if text := "\n".join(details):
        (print_text if dry_run else print_note)(text)
    if dry_run:
        print_text(f"would {action}")
        return False
    if not sys.stdin.isatty():
        or_count = " (--dry-run only shows how many)" if dry_run is not None else ""
        usage_error(f"to {action} without a question, add --yes{or_count}")
    return typer.confirm(f"{action[0].upper()}{action[1:]}?", err=True)


def missing(job_id: int) -> Result:
    """The result for a job that doesn't exist."""
    return Exit.NOT_FOUND, no_such_job(job_id)


def done(job: JobRequest, what: str) -> Result:
    """The result for a job that the command changed."""
    if arguments.on_a_terminal():
        return Exit.DONE, f"job {job.id} ({line(job.job_type)}): {what}"
    return Exit.DONE, f"{job.id}\t{line(job.job_type)}\t{what}"


def changed(job: JobRequest, change: Change) -> Result:
    """The result for a job on which the command acted."""
    return done(job, change.text) if change.done else (Exit.FAILED, change.text)
