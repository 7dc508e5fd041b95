"""Shared by `cancel` and `retry`: act on each job, print a line for each, and exit with the worst result."""

from __future__ import annotations

from collections.abc import Callable

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import Exit, no_such_job, print_error
from spoke_jobs.cli.words import line
from spoke_jobs.model import JobRequest, JobState

Result = tuple[Exit, str]
"""The exit code for one job, and the line to print."""


def for_each(job_ids: list[int], act: Callable[[int], Result]) -> None:
    """Act on each job and print its result.

    :raises typer.Exit: with the highest code, unless every job is done.
    """
    worst = Exit.DONE
    for job_id in job_ids:
        code, text = act(job_id)
        worst = max(worst, code)
        if code is Exit.DONE:
            print(text, flush=True)
        else:
            print_error(text)
    if worst is not Exit.DONE:
        raise typer.Exit(worst)


def missing(job_id: int) -> Result:
    """The result for a job that doesn't exist."""
    return Exit.NOT_FOUND, no_such_job(job_id)


def done(job: JobRequest, what: str) -> Result:
    """The result for a job that the command changed."""
    if arguments.on_a_terminal():
        return Exit.DONE, f"job {job.id} ({line(job.job_type)}): {what}"
    return Exit.DONE, f"{job.id}\t{line(job.job_type)}\t{what}"


def ending(job: JobRequest) -> str:
    """Say how a finished job ended: `succeeded`, or `failed` with its cause."""
    return f"failed ({job.cause})" if job.state is JobState.FAILED else job.state.value
