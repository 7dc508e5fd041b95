"""Claims of jobs that a limit may apply to, in a ledger that has limits.

A claim is one transaction of several statements. It first locks the table ``job_limit`` in a mode that only a change of
a limit waits for. It then searches for jobs outside the scopes that are paused or full, and locks their rows, without
waiting. Then it locks the rows of the limits that apply to these jobs, in the order of their ids, counts the running
attempts again, and reads the tokens again, so that of two claims under one limit the second one counts those of the
first. It waits for other claims' queue locks last. Claims therefore cannot deadlock.

Every running attempt counts, also one whose lease has lapsed: until the reaper ends it, a late heartbeat may renew it.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, desc, func, select

from spoke_jobs.contract.limit_scopes import DIMENSIONS, ScopeKind, Subject
from spoke_jobs.ledger.claims import bulk
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.due_jobs import VARIANTS, Variant, found_in_steps, search, search_text, search_values
from spoke_jobs.ledger.claims.eligibility import Open
from spoke_jobs.ledger.columns.clock import read_clock
from spoke_jobs.ledger.limits_and_pauses import bucket_rows
from spoke_jobs.ledger.limits_and_pauses.limit_cache import LimitCache
from spoke_jobs.ledger.limits_and_pauses.limit_rows import read_limits
from spoke_jobs.ledger.sql.expressions import constant, counted_column
from spoke_jobs.ledger.tables import job_attempt, job_limit, job_request
from spoke_jobs.limits.admission import Admission, Bucket, Closed, LimitSet, bucket_of
from spoke_jobs.model import AttemptState, Claim

_FIND = {
    variant: search_text(
        f"SELECT id, {', '.join(Subject._fields)}, locks_queue FROM {bulk.JOB_REQUEST} WHERE "  # noqa: S608
        f"{search(variant, Open)} FOR UPDATE SKIP LOCKED"
    )
    for variant in VARIANTS
}
COUNTED_APART = 10_000
"""How many groups of running jobs are counted apart. Other code may have written any number of rows."""
OTHERS = Subject("", "", None)
"""The smallest ones, together."""
_IS_RUNNING = job_attempt.c.state == constant(AttemptState.RUNNING)
_ALL_RUNNING = select(func.count()).where(_IS_RUNNING)
_RATED = select(job_limit.c.id, job_limit.c.full_at).where(job_limit.c.rate_count.is_not(None))
_LOCKED = (
    select(job_limit.c.id, job_limit.c.full_at)
    .where(job_limit.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(job_limit.c.id)
    .with_for_update()
)


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search."""

    claims: list[Claim]
    candidates: int
    """How many jobs outside the closed scopes were examined."""
    limits: LimitSet
    next_token_seconds: float | None
    """When the first of the empty buckets has a token; None if none is empty."""
    closed: Closed
    """The scopes of which nothing more may start."""


def claim_batch(connection: Connection, cache: LimitCache, request: ClaimRequest) -> Found | None:
    """Claim due jobs, as :func:`spoke_jobs.ledger.claims.bulk.claim_batch` does.

    Return None if there are no limits, also none that this release can't read.
    """
    limits = cache.read(connection)
    if not cache.known.rows:
        return None
    tokens = _tokens(connection, limits)
    admission = _admission(connection, limits, tokens)
    closed = admission.closed()
    rows = [] if closed.everything else _search(connection, closed, request)
    if applying := _applying(limits, rows):
        again = _locked(connection, limits, tokens, applying)
        if again is not None:
            tokens, admission = again, _admission(connection, limits, again)
    admitted = _admitted(admission, rows)
    if connection.dialect.name == "postgresql":
        ids = [row["id"] for row in admitted]
        claims = bulk.claim_given(connection, ids, request.worker, request.lease_seconds) if ids else []
    else:
        claims = bulk.claim_rows(connection, admitted, request.worker, request.lease_seconds)
    if admission.taken:
        claims = [replace(claim, start_by=admission.start_by(Subject.of(claim.job))) for claim in claims]
        bucket_rows.spend(connection, limits.with_buckets, admission.taken, tokens.buckets, admission.now)
    closed = admission.closed() if applying else closed
    return Found(claims, len(rows), limits, admission.next_token_seconds(), closed)


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


def current_admission(connection: Connection) -> Admission:
    """Return the present state of the limits, for readers."""
    limits = LimitSet(read_limits(connection))
    return _admission(connection, limits, _tokens(connection, limits))


def closed_scopes(connection: Connection, cache: LimitCache) -> Closed:
    """Return the scopes of which nothing may start now, without locking their limits."""
    limits = cache.read(connection)
    return _admission(connection, limits, _tokens(connection, limits)).closed()


@dataclass(frozen=True, slots=True)
class Tokens:
    """The buckets of rates at one time."""

    last: Mapping[int, datetime | None]
    """``job_limit.full_at``, by the limit's id."""
    buckets: Mapping[Bucket, datetime | None]
    """Of a limit with several, the empty ones, or those of the jobs that were found."""


def _admission(connection: Connection, limits: LimitSet, tokens: Tokens) -> Admission:
    running = running_jobs(connection, limits.kinds) if limits.counts else {}
    asked_at = time.monotonic()
    return Admission(limits, running, read_clock(connection), tokens.buckets, asked_at)


def _tokens(connection: Connection, limits: LimitSet) -> Tokens:
    if not limits.rated:
        return Tokens({}, {})
    last = {row.id: row.full_at for row in connection.execute(_RATED)}
    found = _single(limits, last)
    if several := limits.with_buckets:
        found |= bucket_rows.empty_buckets(connection, several.values(), last, read_clock(connection))
    return Tokens(last, found)


def _single(limits: LimitSet, last: Mapping[int, datetime | None]) -> dict[Bucket, datetime | None]:
    return {(number, ""): full_at for number, full_at in last.items() if number not in limits.with_buckets}


def _applying(limits: LimitSet, rows: Iterable[RowMapping]) -> dict[int, set[str]]:
    """Return the limits whose counts or tokens the jobs need, each with the names of its buckets."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for subject in {_subject(row) for row in rows}:
        for limit, name in limits.of(subject):
            if limit.has_bounds:
                found[limit.id].add(bucket_of(limit, name)[1])
    return found


def _locked(
    connection: Connection, limits: LimitSet, tokens: Tokens, applying: Mapping[int, Collection[str]]
) -> Tokens | None:
    """Lock limits, and read the tokens of the jobs that were found. None if the first reading is still right."""
    several = [limit for number, limit in limits.with_buckets.items() if number in applying]
    last = tokens.last
    if connection.dialect.name == "postgresql":
        last = {**last, **{row.id: row.full_at for row in connection.execute(_LOCKED, {"ids": sorted(applying)})}}
    elif not several:  # on SQLite, the transaction excludes other writers
        return None
    named = bucket_rows.named_buckets(connection, several, last, applying)
    return Tokens(last, {**tokens.buckets, **_single(limits, last), **named})


def _admitted(admission: Admission, rows: Iterable[RowMapping]) -> list[RowMapping]:
    locked: set[str] = set()
    found = []
    for row in rows:
        if row["locks_queue"] and row["queue_name"] in locked:
            continue  # another job of this claim takes the lock
        if admission.admit(_subject(row)):
            found.append(row)
            if row["locks_queue"]:
                locked.add(row["queue_name"])
    return found


def _subject(row: RowMapping) -> Subject:
    return Subject(*(row[name] for name in Subject._fields))


def _search(connection: Connection, closed: Closed, request: ClaimRequest) -> Sequence[RowMapping]:
    if connection.dialect.name != "postgresql":
        return found_in_steps(connection, request, Open(closed).expression())
    values = search_values(request) | Open(closed).values()
    return connection.execute(_FIND[Variant.of(request)], values).mappings().all()
