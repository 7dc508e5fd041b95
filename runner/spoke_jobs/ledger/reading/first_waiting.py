"""Some of the waiting jobs, for pages: of each runner, those that are claimed first. No other row is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CompoundSelect, Connection, Select, select, union_all

from spoke_jobs.ledger.sql.expressions import constant
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobState

RUNNERS = 20
"""The most runners whose jobs are looked at. Nearly always there are one or two."""


def waiting_runners(connection: Connection) -> list[str]:
    """List the runners with jobs that wait: one look into the index for each."""
    runner = job_request.c.runner
    first = select(runner).where(job_request.c.state == constant(JobState.WAITING)).order_by(runner).limit(1)
    found: list[str] = []
    while len(found) < RUNNERS:
        following = connection.scalar(first.where(runner > found[-1]) if found else first)
        if following is None or following in found:  # other code wrote characters that are read as others
            break
        found.append(following)
    return found


def may_be_more(largest: int, runners: Sequence[str], most: int) -> bool:
    """Whether more jobs may wait than :func:`first_of_each` selects.

    :param largest: how many it has selected of the runner with the most.
    """
    return largest >= _share(runners, most) or len(runners) >= RUNNERS


def _share(runners: Sequence[str], most: int) -> int:
    """Return how many jobs of each runner are read, so that those of one do not hide the others."""
    return max(most // max(len(runners), 1), 1)


def first_of_each(selected: Select[Any], runners: Sequence[str], most: int) -> CompoundSelect[Any] | Select[Any]:
    """Select the first of the waiting jobs, in the order of claims, which is that of an index.

    :param selected: selects jobs that wait.
    :param most: the most jobs of all runners together.
    """
    parts = [
        selected.where(job_request.c.runner == runner)
        .order_by(job_request.c.rank, job_request.c.id)
        .limit(_share(runners, most))
        .subquery()
        for runner in runners or [""]
    ]
    return union_all(*(select(part) for part in parts))
