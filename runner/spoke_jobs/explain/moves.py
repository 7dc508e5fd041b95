"""Say why a job that was dispatched for a worker runs in a pod, and when one moves. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from spoke_jobs.contract.executors import Lane, lane_of, moved_to_pod, needs_pod
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.reasons import Reason, when
from spoke_jobs.explain.words import ago, clock, line, seconds
from spoke_jobs.ledger.claims.eligibility import overflows_at
from spoke_jobs.model import Attempt, JobRequest

_PATIENCE = timedelta(seconds=30)
"""How late sync may be: it looks every few seconds, or less often if very many jobs wait."""
_OVERDUE = (
    "check that `spoke-jobs sync` runs, and read its log: it moves such jobs in seconds, or later if a pause, a limit "
    "or the queue's lock has held them meanwhile"
)


def why_moved(job: JobRequest, attempts: Sequence[Attempt]) -> str:
    """Say in a few words why a job has moved from a worker to a pod; empty if it has not, or nobody knows."""
    if not moved_to_pod(job.runner, job.options.lane):
        return ""
    last = _last_in_worker(attempts)
    if last is not None and needs_pod(last.cause):
        return line(last.cause)
    longest = job.options.overflow_seconds
    return f"no worker was free within {seconds(longest)}" if longest is not None else ""


def moved(job: JobRequest, attempts: Sequence[Attempt], now: datetime) -> Reason | None:
    """Say why a job that was dispatched for a worker runs in a pod; None if it does not."""
    if not moved_to_pod(job.runner, job.options.lane):
        return None
    text = "it was dispatched for a worker and has moved to a pod"
    last = _last_in_worker(attempts)
    if last is not None and last.finished_at is not None and needs_pod(last.cause):
        text += (
            f": attempt {last.number} of run {last.run}, on the worker {line(last.worker)}, ended with "
            f"{line(last.cause)} {ago(last.finished_at, now)}"
        )
    elif why := why_moved(job, attempts):
        text += f": {why} (its option overflow_seconds)"
    return Reason(Code.MOVED, text)


def moves(job: JobRequest, now: datetime) -> Reason | None:
    """Say when a job moves to a pod unless a worker has started it; None if it does not move."""
    at, longest = overflows_at(job), job.options.overflow_seconds
    if at is None or longest is None:
        return None
    text = (
        f"unless a worker has started it by {clock(at, now)} ({when(at, now)}), sync moves it to a pod "
        f"(its option overflow_seconds is {seconds(longest)})"
    )
    return Reason(Code.MOVES, text, _OVERDUE if now - at > _PATIENCE else "", until=at)


def _last_in_worker(attempts: Sequence[Attempt]) -> Attempt | None:
    return next((item for item in reversed(attempts) if lane_of(item.runner) is Lane.WORKER), None)
