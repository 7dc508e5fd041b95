"""What follows for the jobs that depend on others. Pure, and shared by both ledgers.

The jobs that a job depends on are fixed by its dispatch and were dispatched before it, so their ids are lower. Going
through jobs by ascending id meets each job after all those that it depends on, and among these there are no cycles. A
job that follows a batch waits for jobs with higher ids, too: what would wait for itself in this way is refused
(:func:`check_batch`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from spoke_jobs.contract.causes import Cause
from spoke_jobs.errors import DependencyNotMet, InvalidJobData
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.model import Failure, JobState


class Edge(NamedTuple):
    """One job's dependency on another."""

    job_id: int
    needs_id: int
    runs_after_failure: bool


class Needed(NamedTuple):
    """A job that others depend on."""

    id: int
    uid: UUID
    job_type: str
    state: JobState
    cause: str = ""
    batch_id: int | None = None
    """The batch in which its end still has to be counted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from the ends of some jobs for the blocked jobs that depend on them."""

    failed: Mapping[int, int]
    """Jobs that fail, each with the failed job that it depends on."""
    open: Mapping[int, int]
    """The others, each with the number of jobs that it still waits for; 0 unblocks it."""


def after_ends(ended: Mapping[int, bool], blocked: Mapping[int, int], edges: Iterable[Edge]) -> Outcome:
    """Decide about the blocked jobs that depend on jobs that have ended, and on those that fail for that reason.

    :param ended: the jobs that have ended, and whether each failed.
    :param blocked: blocked jobs, each with the number of jobs that it waits for.
    :param edges: the open dependencies of the blocked jobs on the ended ones and on each other.
    """
    needs = _by_job(edges)
    over, failed, left = dict(ended), {}, {}
    for job_id in sorted(blocked):
        met = [edge for edge in needs[job_id] if edge.needs_id in over]
        unmet = [edge.needs_id for edge in met if over[edge.needs_id] and not edge.runs_after_failure]
        if unmet:
            failed[job_id] = unmet[0]
            over[job_id] = True
        elif met:
            left[job_id] = max(blocked[job_id] - len(met), 0)  # other code may have written the number
    return Outcome(failed, left)


def check_batch(
    batch_id: int, then: int, needs: Collection[int], waiting_for: Callable[[Collection[int]], Iterable[int]]
) -> None:
    """Check that a new job of a batch does not depend on the job that follows the batch, directly or not.

    :param then: the job that follows the batch.
    :param needs: the jobs that the new job depends on.
    :param waiting_for: returns the jobs that depend on any of these, and those that follow a batch which has one.
    :raises InvalidJobData: if it does: both would wait for ever.
    """
    known, found = set[int](), {then}
    while found:
        if met := found.intersection(needs):
            raise InvalidJobData(
                f"after: job {min(met)} waits for the end of batch {batch_id}, so no job of this batch can wait for it"
            )
        known |= found
        found = set(waiting_for(found)) - known


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands with the jobs that it depends on."""

    open: tuple[int, ...] = ()
    """Those that it waits for."""
    failed: Needed | None = None
    """A failed one, after which it does not run."""

    @property
    def waits(self) -> int:
        """How many jobs are counted as open: a failed one, too, until the failure is recorded."""
        return len(self.open) + (self.failed is not None)


def standing(edges: Iterable[Edge], needed: Mapping[int, Needed]) -> Standing:
    """Decide whether a job waits for others."""
    waits, failed = [], None
    for edge in edges:
        other = needed[edge.needs_id]
        if not other.state.final:
            waits.append(other.id)
        elif other.state is JobState.FAILED and not edge.runs_after_failure:
            failed = failed or other
    return Standing(tuple(waits), failed)


@dataclass(frozen=True, slots=True)
class Retried:
    """What follows from a retry by hand."""

    open: tuple[int, ...]
    """The jobs that the retried one waits for."""
    blocked: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """The failed jobs that depend on it and are blocked again, each with the jobs that it waits for."""


def after_retry(job_id: int, again: Collection[int], edges: Iterable[Edge], needed: Mapping[int, Needed]) -> Retried:
    """Decide what a retry of a failed job starts.

    :param again: the jobs that failed because of it, directly or not.
    :param edges: their dependencies and its own.
    :param needed: all these jobs.
    :raises DependencyNotMet: if a job that it depends on has failed.
    """
    needs, known = _by_job(edges), dict(needed)
    own = standing(needs[job_id], known)
    if own.failed is not None:
        raise not_met(job_id, own.failed)
    known[job_id] = known[job_id]._replace(state=JobState.WAITING)
    blocked = {}
    for other in sorted(again):
        stands = standing(needs[other], known)
        if stands.failed is None:
            blocked[other] = stands.open
            known[other] = known[other]._replace(state=JobState.BLOCKED)
    return Retried(own.open, blocked)


def failure_of(needed: Needed) -> Failure:
    """The failure of a job whose dependency has failed."""
    said = f" with {needed.cause}" if needed.cause else ""
    return Failure(
        Cause.DEPENDENCY_FAILED,
        f"job {needed.id} ({needed.job_type}), which it depends on, failed{said}",
        for_good=True,
    )


def failure_of_batch(batch: Batch) -> Failure:
    """The failure of the job that follows a batch in which jobs have failed."""
    counts = f"{batch.failed:,} of {batch.total:,}"
    return Failure(Cause.DEPENDENCY_FAILED, f"{counts} jobs of batch {batch.id} ({batch.name}) failed", for_good=True)


def unknown(reference: int | UUID) -> InvalidJobData:
    """The error of a dispatch after a job that does not exist."""
    return InvalidJobData(
        f"after: there is no job {reference}. It was pruned, it is of another database, or its transaction is not "
        "committed"
    )


def not_met(job_id: int, needed: Needed) -> DependencyNotMet:
    """The error of a retry while a job that it depends on has failed."""
    return DependencyNotMet(
        f"job {job_id} depends on job {needed.id} ({needed.job_type}), which has failed: retry that one, and job "
        f"{job_id} follows it"
    )


def _by_job(edges: Iterable[Edge]) -> defaultdict[int, list[Edge]]:
    found: defaultdict[int, list[Edge]] = defaultdict(list)
    for edge in sorted(edges):
        found[edge.job_id].append(edge)
    return found
