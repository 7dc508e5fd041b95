"""Which rows a list of jobs is looked for in, and how the rows of several indexes become one list by id. Pure.

Few filters have an index of their own, because each index costs every write. So a list is looked for among a bounded
number of rows. It says how far these reached, and the next page goes on there. The fewer of them that are in vain, the
further they reach:

- Where indexes have the jobs of each state that may match by id, only these are read: the unfinished ones, the failed
  ones, the successes of a type, the jobs of an organization.
- Otherwise all jobs are read by id. Rows with neighboring ids share pages, so that more of them can be read in the same
  time (:data:`LOOKED_THROUGH`) than of an index, of which each row may be on a page of its own (:data:`SCATTERED`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from spoke_jobs.contract.executors import CLUSTER_RUNNER, row_runner
from spoke_jobs.model import JobFilter, JobState
from spoke_jobs.type_names import NAME_LIMIT

LOOKED_THROUGH = 20_000
"""The most rows that are read for one list if all jobs are read by id."""
SCATTERED = 10_000
"""The most rows that are read for one list from indexes, and of a queue."""
MOST_SOURCES = 48
"""Of how many indexes, or parts of one, a list is made. Each takes a statement."""
_LARGEST_STEP = 5_000
_FIRST_STEP = 400
"""How many rows of each source are read first, at most, if there are several: each statement takes as long as some
hundred rows."""
_GROWTH = 3
"""How much larger each step of a source is than its last one. Of a quarter of the rows, evenly read, the rest is one
more step of each source."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of jobs is. None: at the newest job."""

    before: int | None = None
    """Only jobs with lower ids: the next older ones."""
    after: int | None = None
    """Only jobs with higher ids: the next newer ones."""


NEWEST = Place()
"""The first page."""


class Kind(NamedTuple):
    """What divides the index of the waiting jobs into parts in which these are by id."""

    runner: str
    rank: int


@dataclass(frozen=True, slots=True)
class Source:
    """Jobs that an index has by id."""

    state: JobState | None = None
    """None: any."""
    prefix: tuple[tuple[str, Any], ...] = ()
    """The index's columns before the id, with their values."""


BY_ID = Source()
"""All jobs."""


class ListedJob(NamedTuple):
    """A job of a list."""

    id: int
    job_type: str
    state: str
    queue_name: str
    cause: str


class Step(NamedTuple):
    """What some rows of a source contain."""

    jobs: Sequence[ListedJob]
    """Those that match, in any order."""
    last: int
    """The id of the row that was read last."""
    looked: int
    """How many rows were read."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Jobs that match, from the place on: newest first, or oldest first after a place."""

    jobs: tuple[ListedJob, ...]
    more: bool = False
    """Whether more are known to match."""
    looked_to: int | None = None
    """Down, or up, to which job the rows were read, if the bound on their number ended that; None: all were read."""
    looked: int = 0
    """How many rows were read."""


def states_by_index(which: JobFilter) -> tuple[JobState, ...] | None:
    """Return the states of the jobs that may match, if indexes have the jobs of each by id; else None."""
    states = tuple(JobState) if which.states is None else which.states
    if which.cause or which.fingerprint:  # a success has none
        states = tuple(state for state in states if state is not JobState.SUCCEEDED)
    owned = organizations(which) is not None
    return states if owned or exact_type(which) or JobState.SUCCEEDED not in states else None


def organizations(which: JobFilter) -> list[int] | None:
    """Return the organizations whose jobs may match; None: any."""
    if which.organization_id is None:
        return None if which.organizations is None else sorted(which.organizations)
    allowed = which.organizations is None or which.organization_id in which.organizations
    return [which.organization_id] if allowed else []


def exact_type(which: JobFilter) -> str | None:
    """Return the only type that may match, if the index of successes has it."""
    name = which.job_type
    return None if name is None or "*" in name or len(name) > NAME_LIMIT else name


def sources(which: JobFilter, kinds: Sequence[Kind]) -> tuple[Source, ...]:
    """Return where to look for the jobs that a filter selects. No job is in two of them.

    :param kinds: those of the waiting jobs. If these are more than :data:`MOST_SOURCES`, others may be missing.
    """
    states = states_by_index(which)
    if states is None or len(kinds) > MOST_SOURCES:
        return (BY_ID,)
    found = tuple(_of_states(which, states, kinds))
    return (BY_ID,) if len(found) > MOST_SOURCES else found


def _of_states(which: JobFilter, states: Sequence[JobState], kinds: Sequence[Kind]) -> Iterator[Source]:
    owners, job_type = organizations(which), exact_type(which)
    wanted = [kind for kind in kinds if _may_be_of(which, kind.runner)]
    if owners == []:
        return
    for state in states:
        if state is JobState.WAITING and owners is None:
            for kind in wanted:
                yield Source(state, (("runner", kind.runner), ("rank", kind.rank)))
        elif state is JobState.WAITING:
            for kind, owner in product(wanted, owners or ()):
                yield Source(state, (("runner", kind.runner), ("organization_id", owner), ("rank", kind.rank)))
        elif state.final and owners is not None:
            for owner in owners:
                yield Source(state, (("organization_id", owner), ("state", state.value)))
        elif state is JobState.SUCCEEDED:
            yield Source(state, (("job_type", job_type),))
        else:
            yield Source(state)


def _may_be_of(which: JobFilter, runner: str) -> bool:
    """Whether a job whose row has this runner may match."""
    if which.lane is not None and runner != row_runner(CLUSTER_RUNNER, which.lane):
        return False
    return which.runner is None or which.runner == runner


def merged(
    sources: Sequence[Source],
    read: Callable[[Source, int | None, int], Step],
    limit: int,
    most: int,
    *,
    upwards: bool = False,
) -> Listing:
    """Read sources until so many jobs are known to be the next ones, or so many rows were read.

    Read next is always the source that has been read least far: only jobs before its last row are known to be the next.

    :param read: reads rows of a source: after the id, if there is one, and at most so many. Of the jobs that match,
        the first ``limit + 1`` suffice.
    """
    sign = 1 if upwards else -1
    number = max(len(sources), 1)
    enough = limit // number + 1
    begin = max(enough, min(_FIRST_STEP, most // (4 * number)))  # not all rows are for sources with few of the jobs
    size = dict.fromkeys(sources, begin if number > 1 else enough)
    last: dict[Source, int | None] = dict.fromkeys(sources)
    jobs: list[ListedJob] = []
    looked = 0

    def progress(source: Source) -> tuple[bool, int]:  # the least is the one that has been read least far
        at = last[source]
        return at is not None, sign * (at or 0)

    def known() -> list[ListedJob]:  # those before the last row of each source
        if not last:
            return jobs
        begun, end = progress(min(last, key=progress))
        return [job for job in jobs if sign * job.id <= end] if begun else []

    while last and not (len(jobs) > limit and len(known()) > limit):
        source = min(last, key=progress)
        if looked >= most and last[source] is not None:
            break
        count = min(size[source], max(most - looked, 1))
        step = read(source, last[source], count)
        jobs += step.jobs
        looked += step.looked
        size[source] = min(max(_GROWTH * size[source], begin), _LARGEST_STEP)
        if step.looked < count:
            del last[source]
        else:
            last[source] = step.last
    found = sorted(known(), key=lambda job: sign * job.id)
    more = len(found) > limit
    looked_to = None if more or not last else last[min(last, key=progress)]
    return Listing(tuple(found[:limit]), more, looked_to, looked)
