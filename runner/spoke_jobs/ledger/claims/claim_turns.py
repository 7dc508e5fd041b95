"""Decide whose job is claimed next where jobs of several organizations wait. Pure.

The rule is the operator's: the highest priority comes first. Within one priority, the next job is one of the
organization with the fewest running jobs; among equals, of the organization whose last turn was the longest ago; among
equals, the oldest job. The jobs without an organization count as one organization.

A search for the next jobs in this order reads more than one claim needs, so its result is used for many claims
(:class:`TurnPlan`). Where at most one organization waits, the order is that of claims without turns, and nothing is
planned.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

Organization = int | None
"""An organization's number; None for the jobs without an organization."""

_REMEMBERED = 10_000
"""How many last turns are remembered: the latest ones."""
_SLICE = 64
"""How many planned jobs a claim looks at. With several workers, most of them are claimed already."""
_TIMES = 50
"""How many times as long as a look there is no other one, whatever it found. A look reads each waiting job of an
organization until it finds enough that are due, so it may take long. Looking takes two hundredths of the time at most,
and one look."""
_USED_SECONDS = 1.0
"""How long the result of a quick look is used: so long does an urgent job wait, or the first job of another
organization."""


class DueJob(NamedTuple):
    """A job that may be claimed."""

    id: int
    rank: int
    """The priority, negated."""
    organization_id: Organization


class LastTurns:
    """Which organization had its last turn when. One without a turn comes first. Safe to share between threads."""

    def __init__(self, turns: Mapping[Organization, int] | None = None, number: int = 0) -> None:
        self._lock = threading.Lock()
        self._turns = dict(turns or {})
        self._number = number

    def of(self, organization: Organization) -> int:
        """Return the number of the organization's last turn."""
        return self._turns.get(organization, 0)

    def take(self, organizations: Iterable[Organization]) -> None:
        """Record turns."""
        with self._lock:
            for organization in organizations:
                self._number += 1
                self._turns.pop(organization, None)
                self._turns[organization] = self._number
                if len(self._turns) > _REMEMBERED:
                    del self._turns[next(iter(self._turns))]

    def copy(self) -> LastTurns:
        """Return a copy, to try an order out."""
        with self._lock:
            return LastTurns(self._turns, self._number)


def in_turns(waiting: Iterable[DueJob], running: Counter[Organization], turns: LastTurns) -> Iterator[DueJob]:
    """Yield jobs in the order in which they may start.

    The caller counts each one that it starts, in ``running`` and ``turns``, before it takes the next one. A job that it
    does not start lets the jobs behind it pass.
    """

    def place(organization: Organization, line: list[DueJob]) -> tuple[int, int, int, Organization]:
        return running[organization], turns.of(organization), line[-1].id, organization

    for lines in _by_priority(waiting):
        heads = [place(organization, line) for organization, line in lines.items()]
        heapq.heapify(heads)
        while heads:
            organization = heapq.heappop(heads)[-1]
            line = lines[organization]
            yield line.pop()
            if line:
                heapq.heappush(heads, place(organization, line))


def _by_priority(waiting: Iterable[DueJob]) -> Iterator[dict[Organization, list[DueJob]]]:
    """Yield the jobs of each priority by organization, the oldest last, where removing it is cheap."""
    groups: dict[int, dict[Organization, list[DueJob]]] = {}
    for job in sorted(waiting, reverse=True):
        groups.setdefault(job.rank, {}).setdefault(job.organization_id, []).append(job)
    for rank in sorted(groups):
        yield groups[rank]


def planned(waiting: Iterable[DueJob], running: Mapping[Organization, int], turns: LastTurns) -> tuple[int, ...]:
    """Return the ids of jobs in the order of turns, as if each started."""
    counted, taken = Counter(running), turns.copy()
    found = []
    for job in in_turns(waiting, counted, taken):
        counted[job.organization_id] += 1
        taken.take((job.organization_id,))
        found.append(job.id)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """The next jobs in the order of turns, for the next claims of a process. Times are of a monotonic clock."""

    ids: tuple[int, ...] = ()
    several: bool = False
    """Whether several organizations waited at the last look."""
    until: float = 0.0
    """When the last look is too old."""
    next_look: float = 0.0
    """The earliest time of the next look. If the plan is used up before, jobs are claimed by priority and age."""
    backlog: bool = True
    """Whether the last claim left jobs, as far as is known. Otherwise there is nothing to take turns for."""

    def look_due(self, now: float, *, changed: bool = False) -> bool:
        """Return whether to look now for organizations with waiting jobs.

        :param changed: whether a limit has changed since the last look.
        """
        if now < self.next_look:
            return False
        if self.several:
            return changed or not self.ids or now >= self.until
        return self.backlog and now >= self.until

    def after_look(self, now: float, seconds: float, ids: tuple[int, ...] | None) -> Self:
        """Return the plan after a look.

        :param seconds: how long it took.
        :param ids: the next jobs; empty if at most one organization waits; None if that is unknown, because a limit
            lets nothing start now, or because the look failed. The earlier plan then stays.
        """
        next_look = now + _TIMES * seconds
        plan = replace(self, until=max(next_look, now + _USED_SECONDS), next_look=next_look)
        return plan if ids is None else replace(plan, ids=ids, several=bool(ids))

    def next_jobs(self, limit: int) -> tuple[int, ...]:
        """Return the jobs for a claim of so many. They are more, because other workers may have claimed some."""
        return self.ids[: max(_SLICE, 4 * limit)]

    def after_turns(self, given: tuple[int, ...], claimed: Collection[int], *, left_some: bool) -> Self:
        """Return the plan after a claim of these jobs.

        :param left_some: whether jobs behind the last claimed one may still start, because the claim got enough, or
            because a limit holds them back. They stay in the plan. If only such jobs were found, the plan is too old.
        """
        if not left_some:
            return replace(self, ids=self.ids[len(given) :])
        if not claimed:
            return replace(self, until=0.0)
        return replace(self, ids=self.ids[max(map(given.index, claimed)) + 1 :])

    def after_others(self, *, backlog: bool) -> Self:
        """Return the plan after a claim of other jobs too, because there were not enough planned ones."""
        if backlog == self.backlog and (backlog or not self.several):
            return self
        if backlog or not self.several:
            return replace(self, backlog=backlog)
        return replace(self, backlog=False, several=False, ids=(), until=0.0)
