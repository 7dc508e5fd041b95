"""Decide which jobs of the lane `worker` move to pods, because no worker was free for them in time. Pure.

A job's row says since when it has been due, but not what it has waited for. Sync looks every few seconds, and remembers
when a pause, a limit, a rate or the lock of a queue last kept the jobs of a scope waiting. A look may fall between two
jobs of a serial queue. So the attempts that workers have claimed since the last look count, too.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from spoke_jobs.contract.limit_scopes import EACH, Subject, counted_as
from spoke_jobs.ledger.maintenance.overflow import Candidate, LaneClaims, Waits
from spoke_jobs.limits.admission import Admission, Closed, Counted

_SHORTEST_MEMORY, _LONGEST_MEMORY = 3_600.0, 7 * 86_400.0
"""For how many seconds it is remembered at least and at most that jobs were held back."""
_MOST_HELD = 100_000
"""How many scopes and queues are remembered."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What the looks so far have found."""

    found: frozenset[int] = frozenset()
    """The jobs that might have moved at the last look."""
    last_attempt: int | None = None
    """The id of the newest attempt at the last look; None before the first one."""
    at: float = 0.0
    """When the last look was."""
    admission: Admission | None = None
    """What the limits left room for at the last look."""
    held: Mapping[str, float] = field(default_factory=dict)
    """When jobs last waited for something else than a worker: by scope, and by :func:`_lock_of` their queue."""
    memory: float = _SHORTEST_MEMORY
    """For how many seconds that is remembered: for the longest `overflow_seconds` of a job that was found."""


def look(before: Looks, waits: Waits, now: float) -> tuple[Looks, list[int]]:
    """Return what is known after a look, and the jobs that move now, oldest first.

    A job moves if it was found at the last look, too, and if nothing has held it back for its `overflow_seconds`.
    Nothing is known of the time before the first look: the job's row alone counts for that.
    """
    held = dict(before.held)
    held |= dict.fromkeys(_closed_scopes(waits.admission.closed()), now)
    held |= dict.fromkeys(map(_lock_of, waits.locked), now)
    if waits.claims and before.admission is not None:
        held |= dict.fromkeys(_of_claims(waits.claims, before.admission, waits.admission, now - before.at), now)
    memory = max([before.memory, *(min(job.overflow_seconds, _LONGEST_MEMORY) for job in waits.candidates)])
    held = {what: at for what, at in held.items() if now - at <= memory}
    if len(held) > _MOST_HELD:
        held = dict(heapq.nlargest(_MOST_HELD, held.items(), key=lambda item: item[1]))
    found = frozenset(job.id for job in waits.candidates)
    moved = [job.id for job in waits.candidates if job.id in before.found and not _was_held(job, held, now)]
    return Looks(found, waits.last_attempt, now, waits.admission, held, memory), moved


def _was_held(job: Candidate, held: Mapping[str, float], now: float) -> bool:
    """Whether a job has waited for something else than a worker within its `overflow_seconds`."""
    what = [text for _, text, _ in job.subject.scopes()]
    if job.queue:
        what.append(_lock_of(job.queue))
    return any(now - at < job.overflow_seconds for each in what if (at := held.get(each)) is not None)


def _lock_of(queue: str) -> str:
    """Name the lock of a queue. No scope has this form."""
    return f"lock:{queue}"


def _closed_scopes(closed: Closed) -> Iterator[str]:
    """Yield the scopes of closed jobs, as :meth:`Subject.scopes` names them."""
    if closed.everything:
        yield "all"
    yield from (f"type:{name}" for name in closed.types)
    yield from (f"{kind}:{name}" for kind, name in closed.named)
    yield from (EACH[kind] for kind in closed.every)


def _of_claims(claims: Mapping[LaneClaims, int], before: Admission, now: Admission, seconds: float) -> Iterator[str]:
    """Yield the queues whose lock was taken since the last look, and the scopes whose limit may have been reached."""
    by_subject: Counter[Subject] = Counter()
    for each, count in claims.items():
        by_subject[each.subject] += count
        if each.queue:
            yield _lock_of(each.queue)
    starts: Counter[Counted] = Counter()
    for subject, count in by_subject.items():
        for counted in now.limits_of(subject):
            starts[counted] += count
    for (limit, name), count in starts.items():
        if before.may_have_filled(limit, name, count, seconds):
            yield counted_as(limit.scope.kind, name)
