"""Cancel or retry many jobs: which ones, in which order, and once more those that another job stood in the way of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

from spoke_jobs.contract.causes import Cause
from spoke_jobs.errors import DependencyNotMet
from spoke_jobs.ledger.reading.queries import SelectedJob
from spoke_jobs.model import UNFINISHED, JobFilter, JobState

R = TypeVar("R")


def cancellable(which: JobFilter) -> JobFilter:
    """Return the filter for those of the jobs that can be cancelled: the unfinished ones."""
    states = UNFINISHED if which.states is None else tuple(state for state in which.states if not state.final)
    return which.evolve(states=states)


def retryable(which: JobFilter, *, with_cancelled: bool = False) -> JobFilter:
    """Return the filter for the failed jobs. Those that somebody cancelled are left out unless they are asked for.

    :param with_cancelled: ask for them. A filter for a cause or a fingerprint selects exactly the jobs that have it.
    """
    asked = with_cancelled or which.cause or which.fingerprint
    return which.evolve(states=(JobState.FAILED,), other_cause_than=None if asked else Cause.CANCELLED.value)


def dependents_first(selected: Collection[SelectedJob]) -> list[int]:
    """Return the ids of jobs in the order in which to cancel them: first the blocked ones, and of these the newest.

    A cancelled job fails those that depend on it, or starts them if they run after failures.
    """
    blocked = {job.id for job in selected if job.state == JobState.BLOCKED}
    return [*sorted(blocked, reverse=True), *(job.id for job in selected if job.id not in blocked)]


def in_turn(
    job_ids: Sequence[int], act: Callable[[int], R], is_over: Callable[[], bool] = lambda: False
) -> Iterator[tuple[int, R | DependencyNotMet]]:
    """Act on each job, and yield its id and the result. A job that is refused because another one has failed comes
    after the rest.

    :param is_over: whether the time is over, asked after each job. The jobs that are left then are not yielded; among
        them are those that were refused, if other jobs have been changed since.
    :return: of each job the result or, if it is refused to the end, the error.
    """
    left = list(job_ids)
    while left:
        refused: dict[int, DependencyNotMet] = {}
        tried = 0
        for job_id in left:
            tried += 1
            try:
                result = act(job_id)
            except DependencyNotMet as error:
                refused[job_id] = error
            else:
                yield job_id, result
            if is_over():
                break
        if len(refused) == tried:  # none of them has changed that
            yield from refused.items()
            return
        if is_over():
            return
        left = list(refused)
