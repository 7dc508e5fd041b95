"""The present state of the limits: how many jobs of each scope run, and which buckets of rates have tokens.

Every running attempt counts, also one whose lease has lapsed: until the reaper ends it, a late heartbeat may renew it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select, desc, func, select

from spoke_jobs.contract.limit_scopes import DIMENSIONS, ScopeKind, Subject
from spoke_jobs.ledger.columns.clock import read_clock
from spoke_jobs.ledger.limits_and_pauses import bucket_rows
from spoke_jobs.ledger.limits_and_pauses.limit_cache import LimitCache
from spoke_jobs.ledger.limits_and_pauses.limit_rows import read_limits
from spoke_jobs.ledger.sql.expressions import constant, counted_column
from spoke_jobs.ledger.tables import job_attempt, job_limit, job_request
from spoke_jobs.limits.admission import Admission, Bucket, Closed, LimitSet
from spoke_jobs.model import AttemptState

COUNTED_APART = 10_000
"""How many groups of running jobs are counted apart. Other code may have written any number of rows."""
OTHERS = Subject("", "", None)
"""All groups beyond the largest, as one."""
_IS_RUNNING = job_attempt.c.state == constant(AttemptState.RUNNING)
_ALL_RUNNING = select(func.count()).where(_IS_RUNNING)
_RATED = select(job_limit.c.id, job_limit.c.full_at).where(job_limit.c.rate_count.is_not(None))


@dataclass(frozen=True, slots=True)
class Tokens:
    """The buckets of rates at one time."""

    last: Mapping[int, datetime | None]
    """``job_limit.full_at``, by the limit's id."""
    buckets: Mapping[Bucket, datetime | None]
    """Of a limit with several, the empty ones, or those of the jobs that were found."""


def read_admission(connection: Connection) -> Admission:
    """Return the present state of the limits, for readers."""
    limits = LimitSet(read_limits(connection))
    return admission_of(connection, limits, read_tokens(connection, limits))


def closed_scopes(connection: Connection, cache: LimitCache) -> Closed:
    """Return the scopes of which nothing may start now, without locking their limits."""
    limits = cache.read(connection)
    return admission_of(connection, limits, read_tokens(connection, limits)).closed()


def admission_of(connection: Connection, limits: LimitSet, tokens: Tokens) -> Admission:
    """Count the running jobs that the limits bound, and return what may still start."""
    running = running_jobs(connection, limits.kinds) if limits.counts else {}
    asked_at = time.monotonic()
    return Admission(limits, running, read_clock(connection), tokens.buckets, asked_at)


def read_tokens(connection: Connection, limits: LimitSet) -> Tokens:
    """Read the buckets of all rates."""
    if not limits.rated:
        return Tokens({}, {})
    last = {row.id: row.full_at for row in connection.execute(_RATED)}
    found = single_buckets(limits, last)
    if several := limits.with_buckets:
        found |= bucket_rows.empty_buckets(connection, several.values(), last, read_clock(connection))
    return Tokens(last, found)


def single_buckets(limits: LimitSet, last: Mapping[int, datetime | None]) -> dict[Bucket, datetime | None]:
    """Return the buckets of the limits that have one each."""
    return {(number, ""): full_at for number, full_at in last.items() if number not in limits.with_buckets}


def running_jobs(connection: Connection, kinds: frozenset[ScopeKind]) -> Counter[Subject]:
    """Count the running attempts of all runners, by what limits of these forms know of their jobs.

    Of more than :data:`COUNTED_APART` groups, the smallest ones count toward limits on all jobs only.
    """
    rows = connection.execute(_largest_groups(kinds, COUNTED_APART)).all()
    found = Counter({Subject(*row[:-1]): row[-1] for row in rows})
    if len(rows) == COUNTED_APART:
        found[OTHERS] += max(0, (connection.scalar(_ALL_RUNNING) or 0) - found.total())
    return found


@lru_cache(64)
def _largest_groups(kinds: frozenset[ScopeKind], number: int) -> Select[Any]:
    each = (
        select(*(counted_column(dimension, kinds).label(dimension.field) for dimension in DIMENSIONS))
        .select_from(job_request)  # without limits, the columns are constants
        .join(job_attempt, job_attempt.c.job_id == job_request.c.id)
        .where(_IS_RUNNING)
        .subquery()
    )
    subject, count = [each.c[name] for name in Subject._fields], func.count()
    return select(*subject, count).group_by(*subject).order_by(desc(count)).limit(number)
