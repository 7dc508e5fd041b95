"""Claims of jobs that a limit may apply to, in a ledger that has limits.

A claim is one transaction of several statements. It first locks the table ``job_limit`` in a mode that only a change of
a limit waits for. It then searches for jobs outside the scopes that are paused or full, and locks their rows, without
waiting. Then it locks the rows of the limits that apply to these jobs, in the order of their ids, counts the running
attempts again, and reads the tokens again, so that of two claims under one limit the second one counts those of the
first. It waits for other claims' queue locks last. Claims therefore cannot deadlock.

Every running attempt counts, also one whose lease has lapsed: until the reaper ends it, a late heartbeat may renew it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, RowMapping, bindparam, select

from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.ledger.claims import bulk
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.due_jobs import VARIANTS, Variant, found_in_steps, search, search_text, search_values
from spoke_jobs.ledger.claims.eligibility import Open
from spoke_jobs.ledger.limits_and_pauses import bucket_rows, current_limits
from spoke_jobs.ledger.limits_and_pauses.limit_cache import LimitCache
from spoke_jobs.ledger.tables import job_limit
from spoke_jobs.limits.admission import Admission, Closed, LimitSet, bucket_of
from spoke_jobs.model import Claim

_FIND = {
    variant: search_text(
        f"SELECT id, {', '.join(Subject._fields)}, locks_queue FROM {bulk.JOB_REQUEST} WHERE "  # noqa: S608
        f"{search(variant, Open)} FOR UPDATE SKIP LOCKED"
    )
    for variant in VARIANTS
}
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
    tokens = current_limits.read_tokens(connection, limits)
    admission = current_limits.admission_of(connection, limits, tokens)
    closed = admission.closed()
    rows = [] if closed.everything else _search(connection, closed, request)
    if applying := _applying(limits, rows):
        again = _locked(connection, limits, tokens, applying)
        if again is not None:
            tokens, admission = again, current_limits.admission_of(connection, limits, again)
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


def _applying(limits: LimitSet, rows: Iterable[RowMapping]) -> dict[int, set[str]]:
    """Return the limits whose counts or tokens the jobs need, each with the names of its buckets."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for subject in {_subject(row) for row in rows}:
        for limit, name in limits.of(subject):
            if limit.has_bounds:
                found[limit.id].add(bucket_of(limit, name)[1])
    return found


def _locked(
    connection: Connection, limits: LimitSet, tokens: current_limits.Tokens, applying: Mapping[int, Collection[str]]
) -> current_limits.Tokens | None:
    """Lock limits, and read the tokens of the jobs that were found. None if the first reading is still right."""
    several = [limit for number, limit in limits.with_buckets.items() if number in applying]
    last = tokens.last
    if connection.dialect.name == "postgresql":
        last = {**last, **{row.id: row.full_at for row in connection.execute(_LOCKED, {"ids": sorted(applying)})}}
    elif not several:  # on SQLite, the transaction excludes other writers
        return None
    named = bucket_rows.named_buckets(connection, several, last, applying)
    return current_limits.Tokens(last, {**tokens.buckets, **current_limits.single_buckets(limits, last), **named})


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
