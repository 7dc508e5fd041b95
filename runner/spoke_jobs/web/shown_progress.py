"""What an end user sees of a job's progress: its state, how far it is, and perhaps a text of the job. Pure.

It says nothing else about the job: not its type, its cause of failure, or that it waits for another job.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.reading.progress_queries import ReportedProgress
from spoke_jobs.model import JobState
from spoke_jobs.shared.clean_text import visible_in_a_line

MESSAGE_LIMIT = 200
"""The most characters of a job's text that are shown, as of `ctx.progress`. Other code may write longer ones."""


@dataclass(frozen=True, slots=True)
class ShownProgress:
    """What is shown."""

    state: str
    """``waiting``, ``running``, ``succeeded`` or ``failed``."""
    percent: int | None
    """From 0 to 100; None after a failure."""
    message: str
    """A text of the job; empty if there is none, or if texts are not shown."""
    ended: bool
    """Whether nothing will change any more."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)


def shown_progress(reported: ReportedProgress, *, messages: bool) -> ShownProgress:
    """Return what is shown of a job.

    :param messages: whether the job's own texts are shown: its progress messages, and the reason of `Discard`. The text
        of any other exception may hold values that were not written for users, so it is never shown.
    """
    state = JobState.WAITING if reported.state is JobState.BLOCKED else reported.state
    text = reported.message if messages and _is_for_users(reported) else ""
    # A text that is cut before its characters are escaped has no half of an escape at its end.
    return ShownProgress(state.value, _percent(reported), visible_in_a_line(text[:MESSAGE_LIMIT]), state.final)


def _is_for_users(reported: ReportedProgress) -> bool:
    """Whether the job's own code wrote the message for people. While a job waits, it is why its last attempt failed."""
    if reported.state is JobState.FAILED:
        return reported.cause == Cause.DISCARDED
    return reported.state in (JobState.RUNNING, JobState.SUCCEEDED)


def _percent(reported: ReportedProgress) -> int | None:
    if reported.state is JobState.RUNNING:
        return min(max(reported.status, 0), 100)
    return {JobState.SUCCEEDED: 100, JobState.FAILED: None}.get(reported.state, 0)
