"""Say how far the job is that holds a queue's lock: a job that hangs looks like a long one. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from spoke_jobs.explain.words import ago, clock, seconds
from spoke_jobs.ledger.reading.holders import Holder

_UNCHANGED = timedelta(minutes=5)
"""After this time, a job's unchanged progress is worth a note."""


def stalled_since(holder: Holder, now: datetime) -> datetime | None:
    """Return since when the job has reported no progress; None if it has, or has just begun."""
    since = max(holder.since, holder.progressed_at)
    return since if now - since >= _UNCHANGED else None


def progress_of(holder: Holder, now: datetime) -> str:
    """Continue a sentence about the job: what it has reported, and how long its type usually takes."""
    return f"{_reported(holder, now)}{_usual(holder, now)}"


def _reported(holder: Holder, now: datetime) -> str:
    stalled = stalled_since(holder, now)
    if holder.percent <= 0:
        return ", without having reported progress" if stalled else ""
    if stalled is None:
        return f", {holder.percent} % done"
    return f", {holder.percent} % done, with no progress since {clock(stalled, now)} ({ago(stalled, now)})"


def _usual(holder: Holder, now: datetime) -> str:
    """Name the usual time if the job has taken more than twice as long."""
    usual = holder.usual_seconds
    if usual is None or (now - holder.since).total_seconds() <= 2 * usual:
        return ""
    return f"; its type usually takes {seconds(usual)}"
