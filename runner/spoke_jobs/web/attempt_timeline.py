"""When an attempt was queued, admitted, scheduled, started and ended: as text, and as a bar of an SVG image. Pure.

The times come from the ledger, from the operator and, for what happens on a node, from the kubelet. Their clocks
differ, and the kubelet's times are whole seconds, so that a step may seem to precede the one before it. The time
between them is then none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from spoke_jobs.contract.executors import moved_to_pod
from spoke_jobs.explain.tries import Try
from spoke_jobs.explain.words import clock, seconds
from spoke_jobs.ledger.audit.audit_events import Action, Event
from spoke_jobs.model import JobRequest
from spoke_jobs.web.view_parts import When

WIDTH = 600
HEIGHT = 16
_AT_ONCE = timedelta(seconds=1)
"""An attempt that was due within this time since it was queued did not wait for a time. Both are read from clocks."""
_NARROWEST = 3
"""The width of a period that takes hardly any time beside the others."""

QUEUED, DUE, ADMITTED, SCHEDULED = "queued", "due", "admitted", "got its node"
PULLED, CONTAINER, STARTED, ENDED = "image pulled", "container started", "started", "ended"
_PERIODS: Mapping[str, tuple[str, str]] = {
    QUEUED: ("waits", "waited {}"),
    DUE: ("waits", "waited {} once it was due"),
    ADMITTED: ("starts", "waited {} for its pod"),
    SCHEDULED: ("starts", "prepared its pod in {}"),
    PULLED: ("starts", "started its container in {}"),
    CONTAINER: ("starts", "loaded its code in {}"),
    STARTED: ("runs", "ran for {}"),
}
"""What an attempt does after each step: a class of the style sheet, and words. The last step has no period."""
_NOT_SCHEDULED = "prepared its pod in {}"
_PULLS = "pulled its image in {}"


@dataclass(frozen=True, slots=True)
class StepItem:
    """A step of an attempt."""

    name: str
    when: When
    clock: str
    """The time of day in the reader's zone."""
    after: str
    """How long after the step before it; empty of the first one."""


@dataclass(frozen=True, slots=True)
class Period:
    """A part of the bar: the time between two steps, or until now."""

    kind: str
    """A class of the style sheet."""
    x: int
    width: int


@dataclass(frozen=True, slots=True)
class AttemptTimeline:
    """The steps of an attempt, as far as they are known."""

    name: str
    """For ids."""
    text: str
    """What the bar shows, in words."""
    steps: tuple[StepItem, ...]
    periods: tuple[Period, ...]
    width: int = WIDTH
    height: int = HEIGHT


def timelines(
    job: JobRequest,
    found: Sequence[Try],
    now: datetime,
    *,
    newest: int,
    events: Sequence[Event] = (),
    pulled: Mapping[str, datetime] | None = None,
) -> tuple[AttemptTimeline, ...]:
    """Describe the newest attempts, the oldest of them first. One of which no time is known is left out.

    :param now: in the reader's zone.
    :param newest: how many.
    :param events: those about the job, among them the retries by hand.
    :param pulled: when the images of pods were pulled, by the pods' names, as far as the cluster still knows.
    """
    first = max(len(found) - newest, 0)
    before: list[Try | None] = [None, *found]
    each = (
        _timeline(item, dict(_steps(job, item, before[at], events, pulled or {})), now)
        for at, item in enumerate(found)
        if at >= first
    )
    return tuple(item for item in each if item is not None)


def _steps(
    job: JobRequest, item: Try, previous: Try | None, events: Sequence[Event], pulled: Mapping[str, datetime]
) -> Iterator[tuple[str, datetime]]:
    """Yield the known steps of an attempt, in their order."""
    row, seen = item.row, item.seen
    begun = (seen.started_at if seen else None) or item.begun_at
    queued = _queued_at(job, item, previous, events)
    if begun is not None:
        if queued is not None:
            yield QUEUED, queued
        due = _due_at(job, item, queued)
        if due is not None and due <= begun:
            yield DUE, due
    if seen is not None:
        image = pulled.get(seen.pod) if seen.pod else None
        for name, at in (
            (ADMITTED, seen.started_at),
            (SCHEDULED, seen.scheduled_at),
            (PULLED, image),
            (CONTAINER, seen.runs_since),
        ):
            if at is not None:
                yield name, at
    if row is not None:
        yield STARTED, row.claimed_at
    if item.ended_at is not None:
        yield ENDED, item.ended_at


def _queued_at(job: JobRequest, item: Try, previous: Try | None, events: Sequence[Event]) -> datetime | None:
    """Return since when an attempt could be waited for: the dispatch, a retry by hand, or the last attempt's end."""
    if item.number > 1:
        follows = previous is not None and (previous.run, previous.number) == (item.run, item.number - 1)
        return previous.ended_at if previous is not None and follows else None
    if item.run == 1:
        return job.created_at
    by_hand = [event.at for event in events if event.action == Action.RETRY and _is_before(event.at, item)]
    if by_hand:
        return max(by_hand)
    return previous.ended_at if previous is not None and moved_to_pod(job.runner, job.options.lane) else None


def _due_at(job: JobRequest, item: Try, queued: datetime | None) -> datetime | None:
    """Return when an attempt was due, if that was later than it was queued, or if nobody knows when it was queued."""
    due = item.row.due_at if item.row is not None else None
    if due is None and queued is not None:
        due = job.run_after  # of the job's last attempt only, until that is claimed
    return due if due is None or queued is None or due - queued >= _AT_ONCE else None


def _is_before(at: datetime, item: Try) -> bool:
    begun = item.begun_at
    return begun is None or at <= begun


def _timeline(item: Try, steps: Mapping[str, datetime], now: datetime) -> AttemptTimeline | None:
    if not steps.keys() - {ENDED}:
        return None
    lasted: dict[str, float] = {}  # seconds from each step until the next one, or until now
    latest: datetime | None = None
    ends = [*steps.items(), *([] if ENDED in steps else [("", now)])]
    for (name, at), (_, then) in pairwise(ends):
        latest = at if latest is None else max(latest, at)
        lasted[name] = max((then - latest).total_seconds(), 0.0)
    items = []
    gap = ""
    for name, at in steps.items():
        items.append(StepItem(name, When.of(at, now), clock(at, now), gap))
        gap = f"{seconds(lasted[name])} later" if name in lasted else ""
    said = ", ".join(
        _words(name, steps).format(seconds(value) + ("" if ENDED in steps or name != ends[-2][0] else " so far"))
        for name, value in lasted.items()
    )
    attempt = f"Attempt {item.number}" + (f" of run {item.run}" if item.run > 1 else "")
    return AttemptTimeline(
        f"attempt-{item.run}-{item.number}", f"{attempt} {said}.", tuple(items), tuple(_bar(lasted, item.state))
    )


def _words(name: str, steps: Mapping[str, datetime]) -> str:
    if name == ADMITTED and SCHEDULED not in steps and len(steps.keys() & {PULLED, CONTAINER, STARTED}):
        return _NOT_SCHEDULED  # a pod that was there before, or what an earlier operator recorded
    return _PULLS if name == SCHEDULED and PULLED in steps else _PERIODS[name][1]


def _bar(lasted: Mapping[str, float], state: str) -> Iterator[Period]:
    """Share the width out in proportion to the time. Each period that took any time is seen."""
    some = {name: value for name, value in lasted.items() if value > 0}
    whole = sum(some.values())
    room = WIDTH - _NARROWEST * len(some)
    x = 0.0
    for name, value in some.items():
        width = _NARROWEST + room * value / whole
        kind = _PERIODS[name][0]
        begin, end = round(x), round(x + width)
        yield Period(f"{kind} {state}" if kind == "runs" else kind, begin, end - begin)
        x += width
