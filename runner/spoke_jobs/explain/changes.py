"""What a cancellation or a retry of one job did, as a text. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from spoke_jobs.contract.causes import Cause
from spoke_jobs.model import JobRequest, JobState


@dataclass(frozen=True, slots=True)
class Change:
    """The result of an action on a job."""

    done: bool
    """Whether the job was changed."""
    text: str
    """What was done, as in ``asked to stop``, or the sentence that says why nothing was."""


def cancelled(before: JobRequest, after: JobRequest) -> Change:
    """Say what a cancellation did.

    :param before: the job as it was read before.
    :param after: the job as the cancellation returned it.
    """
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
