"""The due jobs, for the dashboard: the types and the organizations with the most of them, and the oldest ones. Each
statement reads a bounded number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    Text,
    case,
    cast,
    desc,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from spoke_jobs.ledger.claims.eligibility import Due
from spoke_jobs.ledger.columns.clock import UTCDateTime
from spoke_jobs.ledger.reading.first_waiting import first_of_each, may_be_more, waiting_runners
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import constant, due_since
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobFilter, JobState

EXAMINED = 10_000
"""The most waiting jobs that are examined: of each runner, those that are claimed first."""
MOST = 5
"""How many types and how many organizations are named."""
OLDEST = 5
"""How many of the oldest jobs are named."""
_ALL, _OF_TYPE, _OF_ORGANIZATION, _OLDEST = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class OldestJob:
    """A due job that waits."""

    job_id: int
    job_type: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class DueCounts:
    """The waiting jobs that are due."""

    number: int
    more: bool
    """Whether more jobs wait than were examined."""
    types: tuple[tuple[str, int], ...]
    """The types with the most of these jobs, and how many they have."""
    organizations: tuple[tuple[int, int], ...]
    """The same of organizations."""
    oldest: tuple[OldestJob, ...]
    """Those that have been due for longest."""


def due_counts(connection: Connection, which: JobFilter) -> DueCounts:
    """Count the due jobs by type and by organization, of those that pass the filter."""
    runners = waiting_runners(connection)
    number = examined = 0
    types, organizations, oldest = [], [], []
    for part, job_type, organization_id, due, waiting, job_id, due_at in connection.execute(_statement(which, runners)):
        if part == _OF_TYPE:
            types.append((job_type, due))
        elif part == _OF_ORGANIZATION:
            organizations.append((organization_id, due))
        elif part == _OLDEST:
            oldest.append(OldestJob(job_id, job_type, due_at))
        else:
            number, examined = due, waiting
    oldest.sort(key=lambda job: (job.due_at, job.job_id))
    more = may_be_more(examined, runners, EXAMINED)
    return DueCounts(number, more, _largest(types), _largest(organizations), tuple(oldest))


def _largest(counts: list[tuple[Any, int]]) -> tuple[tuple[Any, int], ...]:
    """Sort what the parts of the statement return in no order."""
    return tuple(sorted(counts, key=lambda each: (-each[1], each[0])))


def _statement(which: JobFilter, runners: Sequence[str]) -> Any:
    waiting = select(
        job_request.c.job_type,
        job_request.c.organization_id,
        case((Due().expression(), 1), else_=0).label("due"),
        job_request.c.id,
        due_since().label("due_at"),
        job_request.c.runner,
    ).where(job_request.c.state == constant(JobState.WAITING), *filters.conditions(which))
    each = first_of_each(waiting, runners, EXAMINED).cte("waiting")
    of_a_runner = select(func.count().label("number")).select_from(each).group_by(each.c.runner).subquery()
    no_type = cast(literal_column("''"), Text)
    no_organization = cast(null(), job_request.c.organization_id.type)
    no_job = (cast(null(), BigInteger).label("id"), cast(null(), UTCDateTime).label("due_at"))
    number = func.count().label("number")

    def largest(part: int, job_type: Any, organization_id: Any, by: Any) -> Select[Any]:
        found = (
            select(
                literal_column(str(part)).label("part"),
                job_type.label("job_type"),
                organization_id.label("organization_id"),
                number,
                literal_column("0").label("examined"),
                *no_job,
            )
            .where(each.c.due == 1, by.is_not(None))
            .group_by(by)
            .order_by(desc("number"), by)
            .limit(MOST)
            .subquery()
        )
        return select(found)

    whole = select(
        literal_column(str(_ALL)).label("part"),
        no_type.label("job_type"),
        no_organization.label("organization_id"),
        func.coalesce(func.sum(each.c.due), 0).label("number"),
        select(func.coalesce(func.max(of_a_runner.c.number), 0)).scalar_subquery().label("examined"),
        *no_job,
    ).select_from(each)
    oldest = (
        select(
            literal_column(str(_OLDEST)).label("part"),
            each.c.job_type,
            no_organization.label("organization_id"),
            literal_column("0").label("number"),
            literal_column("0").label("examined"),
            each.c.id,
            each.c.due_at,
        )
        .where(each.c.due == 1)
        .order_by(each.c.due_at, each.c.id)
        .limit(OLDEST)
        .subquery()
    )
    return union_all(
        whole,
        largest(_OF_TYPE, each.c.job_type, no_organization, each.c.job_type),
        largest(_OF_ORGANIZATION, no_type, each.c.organization_id, each.c.organization_id),
        select(oldest),
    )
