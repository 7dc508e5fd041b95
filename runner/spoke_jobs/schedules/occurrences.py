"""Which occurrences of a schedule to dispatch now. Pure decisions on frozen values."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from spoke_jobs.schedules.timing import Misfire, Overlap, Timing

AT_ONCE = 100
"""The most occurrences of one schedule that one tick dispatches. The next tick continues."""
_TICK = timedelta(microseconds=1)
_LOOK_BACK = (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=370))
"""How far back the latest occurrence is searched, nearest first: there may be millions since the oldest missed one."""


class SkipReason(StrEnum):
    """Why an occurrence was not dispatched."""

    MISSED = "Missed"
    """No process dispatched it in time, and the schedule's `misfire` skips it."""
    OVERLAP = "Overlap"
    """An earlier job of the schedule was unfinished, and the schedule's `overlap` skips it, or a later one replaced
    it."""
    UNIQUE_KEY = "UniqueKey"
    """An unfinished job had the schedule's unique_key."""
    TAKEN = "Taken"
    """A job had the due time already: `backfill` dispatched it, or other code wrote its row."""
    INVALID = "Invalid"
    """The job could not be made: its payload or an option does not validate."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Occurrences that were not dispatched, from the first to the last of them."""

    reason: SkipReason
    first: datetime
    last: datetime
    job_id: int | None = None
    """The job that was the reason."""
    detail: str = ""
    """What is wrong with the payload or an option."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a schedule that is due."""

    dispatch: tuple[datetime, ...]
    """The due times to dispatch, oldest first."""
    next_due: datetime | None
    """When it is due again; None: never."""
    skip: Skip | None = None
    cancel: tuple[int, ...] = ()
    """The unfinished jobs to cancel before."""


def decide(
    timing: Timing, due: datetime, now: datetime, unfinished: Collection[int] = (), limit: int = AT_ONCE
) -> Decision:
    """Decide on a schedule whose next occurrence, ``due``, is not later than ``now``.

    :param unfinished: the ids of the schedule's jobs that wait or run; needed unless overlaps are allowed.
    """
    return _without_overlap(timing, _on_misfires(timing, due, now, limit), unfinished)


def _on_misfires(timing: Timing, due: datetime, now: datetime, limit: int) -> Decision:
    in_time = now - timedelta(seconds=timing.misfire_grace_seconds)
    if due >= in_time:
        return _dispatch(timing, due - _TICK, now, limit)
    if timing.misfire == Misfire.ONCE:
        latest = _latest(timing, due, now)
        skip = _missed(timing, due, latest - _TICK)
        return Decision((latest,), timing.after(latest), skip)
    begin = in_time
    if timing.misfire == Misfire.ALL:
        begin = min(in_time, now - timedelta(seconds=timing.misfire_window_seconds))
    skip = _missed(timing, due, begin - _TICK) if due < begin else None
    return replace(_dispatch(timing, max(due, begin) - _TICK, now, limit), skip=skip)


def _dispatch(timing: Timing, after: datetime, now: datetime, limit: int) -> Decision:
    found: list[datetime] = []
    upcoming = timing.after(after)
    while upcoming is not None and upcoming <= now and len(found) < limit:
        found.append(upcoming)
        upcoming = timing.after(upcoming)
    return Decision(tuple(found), upcoming)


def _missed(timing: Timing, due: datetime, until: datetime) -> Skip | None:
    return Skip(SkipReason.MISSED, due, _latest(timing, due, until)) if due <= until else None


def _latest(timing: Timing, due: datetime, until: datetime) -> datetime:
    """Return the latest occurrence that is not later than ``until``. ``due`` is one."""
    for span in _LOOK_BACK:
        if until - span > due and (found := list(timing.between(until - span, until))):
            return found[-1]
        if until - span <= due:
            break
    return max(timing.between(due, until), default=due)


def _without_overlap(timing: Timing, decision: Decision, unfinished: Collection[int]) -> Decision:
    times = decision.dispatch
    if timing.overlap == Overlap.ALLOW or not times or (not unfinished and len(times) == 1):
        return decision
    newest = max(unfinished, default=None)
    if timing.overlap == Overlap.REPLACE:  # of several at once, each would replace the one before
        skip = Skip(SkipReason.OVERLAP, times[0], times[-2]) if len(times) > 1 else decision.skip
        return replace(decision, dispatch=times[-1:], skip=skip, cancel=tuple(sorted(unfinished)))
    kept = () if unfinished else times[:1]
    left = times[len(kept) :]
    return replace(decision, dispatch=kept, skip=Skip(SkipReason.OVERLAP, left[0], left[-1], newest))


def without_taken(decision: Decision, taken: Mapping[datetime, int]) -> Decision:
    """Skip the due times that have a job already. If none is left, cancel nothing: no job replaces the earlier ones.

    :param taken: the ids of these jobs.
    """
    skipped = [when for when in decision.dispatch if when in taken]
    if not skipped:
        return decision
    left = tuple(when for when in decision.dispatch if when not in taken)
    skip = Skip(SkipReason.TAKEN, skipped[0], skipped[-1], taken[skipped[-1]])
    return replace(decision, dispatch=left, skip=skip, cancel=decision.cancel if left else ())


def not_made(decision: Decision, due: datetime, detail: str) -> Skip:
    """Return the skip of a decision whose jobs can't be made: all its due times, the first of which is ``due``."""
    skipped = () if decision.skip is None else (decision.skip.last,)
    return Skip(SkipReason.INVALID, due, max((due, *decision.dispatch, *skipped)), detail=detail)


def everything_due(timing: Timing, due: datetime, now: datetime) -> Decision:
    """Return a decision about all due times up to ``now``, of which it names only the latest."""
    return Decision((_latest(timing, due, now),), timing.after(now))


def as_one_run(stored: Skip | None, new: Skip, timing: Timing, last_due: datetime | None) -> Skip:
    """Return the skip to store: the new one, which begins with the stored one if both are one run.

    They are if both have the same reason, and neither a job nor another due time is between them.

    :param last_due: the due time of the schedule's newest job.
    """
    if stored is None or stored.reason is not new.reason or timing.after(stored.last) != new.first:
        return new
    return new if last_due is not None and last_due >= stored.first else replace(new, first=stored.first)


def delay_of(timing: Timing, name: str, due: datetime) -> timedelta:
    """Return how much later than ``due`` a job may start: the same in whichever process, from 0 to the jitter."""
    key = f"{name} {due.timestamp()}".encode()
    share = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) / 2**64
    return timedelta(seconds=round(timing.jitter_seconds * share, 3))


def upcoming(timing: Timing, due: datetime | None, count: int) -> list[datetime]:
    """Return up to ``count`` due times, from the next one, ``due``, on."""
    found: list[datetime] = []
    while due is not None and len(found) < count:
        found.append(due)
        due = timing.after(due)
    return found
