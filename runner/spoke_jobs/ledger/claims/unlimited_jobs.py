"""Claim the jobs that no limit applies to, by one statement, in a ledger that has limits. Only on PostgreSQL.

The statement locks the table ``job_limit`` as other claims do. It claims nothing if the limits have changed since the
process read them. Of the first due jobs in the order of claims, it claims those of whose scopes none has a row in
``job_limit``. It looks these up in the index of that table, so their number does not matter.

Each set of forms of scopes that the limits have is a statement of its own: a ledger whose limits are of organizations
looks up nothing but organizations.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection

from spoke_jobs.contract.limit_scopes import DIMENSIONS, PLAIN_DIMENSIONS, ScopeKind
from spoke_jobs.ledger.claims import bulk
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.due_jobs import Variant, search, search_text, search_values
from spoke_jobs.ledger.claims.eligibility import Open, open_text
from spoke_jobs.ledger.limits_and_pauses.limit_cache import KnownLimits
from spoke_jobs.ledger.limits_and_pauses.limit_rows import LAST_CHANGE
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.limits.admission import Closed
from spoke_jobs.model import Claim

# Nobody reads `locked`: PostgreSQL locks the tables of a statement before it plans or runs it, whatever it then reads.
# `found` looks up limits after it has locked the jobs, so only of as many jobs as are wanted. `changed` has a row if
# the limits have changed since the process read them. Several statements then claim, and read the limits again.
_FOUND = f"""
locked AS (SELECT 1 FROM {bulk.JOB_LIMIT} FOR KEY SHARE),
changed AS MATERIALIZED (SELECT 1 WHERE {LAST_CHANGE} <> cast(:change AS bigint)),
found AS MATERIALIZED (
    SELECT *, {{is_limited}} AS is_limited
    FROM (
        SELECT {{columns}}, {bulk.DUE_AT}
        FROM {bulk.JOB_REQUEST}
        WHERE NOT EXISTS (SELECT 1 FROM changed) AND {{search}}
        FOR UPDATE SKIP LOCKED
    ) AS job
), candidates AS NOT MATERIALIZED (
    SELECT id, locks_queue, queue_name, rank, due_at FROM found WHERE NOT is_limited
), examined AS (
    SELECT count(*) FILTER (WHERE NOT is_limited) AS candidates,
        count(*) FILTER (WHERE is_limited) + (SELECT count(*) FROM changed) AS limits
    FROM found
)"""  # noqa: S608  (constants)
_COLUMNS = ("id", "locks_queue", "queue_name", "rank")


@lru_cache(64)
def _statement(variant: Variant, kinds: frozenset[ScopeKind], *, patterns: bool, leaving: bool) -> Any:
    """Return the statement under limits of these forms.

    :param patterns: whether one of them is of the types that begin with a prefix.
    :param leaving: whether it leaves out scopes.
    """
    conditions = search(variant)
    if leaving:
        conditions = f"{open_text(kinds)}\n      AND {conditions}"
    columns = dict.fromkeys([*_COLUMNS, *(each.field for each in DIMENSIONS if each.kinds & kinds)])
    found = _FOUND.format(columns=", ".join(columns), is_limited=_is_limited(kinds, patterns), search=conditions)
    return bulk.typed(search_text(bulk.CLAIM.format(candidates=found)))


def _is_limited(kinds: Collection[ScopeKind], patterns: bool) -> str:
    """Return the condition that a limit applies to a job."""
    conditions = [_is_present(each.field) for each in PLAIN_DIMENSIONS if each.each in kinds]
    if patterns:
        conditions.append("job_type LIKE ANY(:limited_patterns)")
    if scopes := [f"'{each.kind}:' || {each.field}" for each in DIMENSIONS if each.kind in kinds]:
        # An array, also of one scope, because a plan for `=` might read the whole table into a hash.
        conditions.append(f"EXISTS (SELECT 1 FROM {bulk.JOB_LIMIT} WHERE scope = ANY(ARRAY[{', '.join(scopes)}]))")  # noqa: S608
    return f"({' OR '.join(conditions) or 'false'})"


@lru_cache(1)
def _left_out(closed: Closed) -> Mapping[str, Any]:
    """Return the parameters of a search that leaves out scopes: the same ones from one look to the next."""
    return Open(closed).values()


def _is_present(column: str) -> str:
    return f"{column} IS NOT NULL" if job_request.c[column].nullable else f"{column} <> ''"


@dataclass(frozen=True, slots=True)
class UnlimitedClaims:
    """What the statement found."""

    claims: list[Claim]
    candidates: int
    """How many jobs without limits it examined."""
    limited: int
    """How many jobs with limits it left; 1 if the limits have changed."""


def claim_unlimited(
    connection: Connection, known: KnownLimits, closed: Closed, request: ClaimRequest
) -> UnlimitedClaims:
    """Claim due jobs that no limit applies to.

    :param closed: scopes to leave out of the search.
    """
    patterns, leaving = known.type_patterns, not closed.nothing
    values: dict[str, Any] = search_values(request) | {
        "worker": request.worker,
        "lease": request.lease_seconds,
        "change": known.version[0],
    }
    if patterns:
        values["limited_patterns"] = patterns
    if leaving:
        values |= _left_out(closed)
    statement = _statement(Variant.of(request), known.limits.kinds, patterns=bool(patterns), leaving=leaving)
    return UnlimitedClaims(*bulk.granted(connection, statement, values, request.lease_seconds))
