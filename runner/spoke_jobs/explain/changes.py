"""What a cancellation or a retry would change, and what it did, as texts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from spoke_jobs.contract.causes import Cause
from spoke_jobs.explain.words import count, line
from spoke_jobs.ledger.reading.queries import SelectedJob
from spoke_jobs.model import JobRequest, JobState

_SHOWN = 10
"""The most types of jobs, or names of tasks, that a question shows."""


@dataclass(frozen=True, slots=True)
class Change:
    """The result of an action on a job."""

    done: bool
    """Whether the job was changed."""
    text: str
    """What was done, as in ``asked to stop``, or the sentence that says why nothing was."""


def cancelled(before: JobRequest, after: JobRequest, *, among_others: bool = False) -> Change:
    """Say what a cancellation did.

    :param before: the job as it was read before.
    :param after: the job as the cancellation returned it.
    :param among_others: whether jobs were cancelled before it on which it may depend. One that failed by that is done.
    """
    if among_others and before.state.final and before.cause == Cause.DEPENDENCY_FAILED:
        return Change(True, ending(before))
    if before.state.final:
        return Change(False, f"job {before.id} has already {ending(before)}: there is nothing to cancel")
    if after.state is JobState.RUNNING:
        return Change(True, "asked to stop")
    if after.cause != Cause.CANCELLED:
        return Change(False, f"job {before.id} ended before it was cancelled: it has {ending(after)}")
    return Change(True, "cancelled")


def retried(before: JobRequest, after: JobRequest) -> Change:
    """Say what a retry by hand did."""
    if after.state is before.state is JobState.BLOCKED and after.run > 1:
        return Change(True, f"blocked, run {after.run}")  # by the retry of a job that it depends on
    if after.run == before.run:
        state = f"has {ending(after)}" if after.state.final else f"is {after.state}"
        return Change(False, f"job {before.id} {state}: only a failed job can be retried")
    return Change(True, f"{after.state}, run {after.run}")


def ending(job: JobRequest) -> str:
    """Say how a finished job ended: `succeeded`, or `failed` with its cause."""
    return f"failed ({job.cause})" if job.state is JobState.FAILED else job.state.value


def kinds_of(selected: Sequence[SelectedJob]) -> list[str]:
    """Say how many jobs of each type and state there are."""
    kinds = Counter((job.job_type, job.state) for job in selected)
    lines = [
        f"{count(number, f'{state} job')} of the type {line(name)}" for (name, state), number in kinds.most_common()
    ]
    return first_few(lines, "types")


def first_few(lines: Sequence[str], what: str) -> list[str]:
    """Return the lines that a question shows: the first ones, and how many more there are.

    :param what: what the lines are about, as in ``types``.
    """
    more = [f"and {len(lines) - _SHOWN} more {what}"] if len(lines) > _SHOWN else []
    return [*lines[:_SHOWN], *more]
