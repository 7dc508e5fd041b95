"""Claim the jobs that no limit applies to, by one statement, in a ledger that has limits. Only on PostgreSQL.

The statement locks the table ``job_limit`` as other claims do. It claims nothing if the limits have changed since the
process read them. Of the first due jobs in the order of claims, it claims those of whose scopes none has a row in
``job_limit``. It looks these up in the index of that table, so their number does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from spoke_jobs.contract.limit_scopes import DIMENSIONS, PLAIN_DIMENSIONS
from spoke_jobs.ledger.claims import bulk
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.due_jobs import VARIANTS, Variant, search, search_text, search_values
from spoke_jobs.ledger.claims.eligibility import Open
from spoke_jobs.ledger.limits.limit_cache import KnownLimits
from spoke_jobs.ledger.limits.limit_rows import LAST_CHANGE
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.limits.admission import Closed
from spoke_jobs.model import Claim


def _is_present(column: str) -> str:
    return f"{column} IS NOT NULL" if job_request.c[column].nullable else f"{column} <> ''"


_COLUMNS = ", ".join(dimension.field for dimension in DIMENSIONS if dimension.field != "queue_name")
_EACH = {dimension.each: dimension.field for dimension in PLAIN_DIMENSIONS if dimension.each is not None}
_OF_EACH = " ".join(f"OR (:limits_each_{column} AND {_is_present(column)})" for column in _EACH.values())
_SCOPES = ",\n                ".join(f"'{dimension.kind}:' || {dimension.field}" for dimension in PLAIN_DIMENSIONS)
# `limited` has a row also if the limits have changed. Several statements then claim, and read the limits again.
_FOUND = f"""
locked AS MATERIALIZED (SELECT 1 FROM {bulk.JOB_LIMIT} WHERE id < 0 FOR KEY SHARE),
unchanged AS MATERIALIZED (
    SELECT {LAST_CHANGE} = cast(:change AS bigint) AND NOT EXISTS (SELECT 1 FROM locked) AS yes
), found AS MATERIALIZED (
    SELECT id, locks_queue, queue_name, rank, {bulk.DUE_AT}, {_COLUMNS}
    FROM {bulk.JOB_REQUEST}
    WHERE (SELECT yes FROM unchanged) AND {{search}}
    FOR UPDATE SKIP LOCKED
), candidates AS MATERIALIZED (
    SELECT id, locks_queue, queue_name, rank, due_at FROM found
    WHERE NOT (
        job_type = ANY(:limited_types) OR job_type LIKE ANY(:limited_patterns)
        {_OF_EACH}
        OR EXISTS (
            SELECT 1 FROM {bulk.JOB_LIMIT} WHERE scope = ANY(ARRAY[
                {_SCOPES}
            ])
        )
    )
), limited AS (
    SELECT 1 FROM found WHERE id NOT IN (SELECT id FROM candidates)
    UNION ALL SELECT 1 FROM unchanged WHERE NOT yes
)"""  # noqa: S608  (constants)
_CLAIM = {
    (variant, leaving): bulk.typed(
        search_text(bulk.CLAIM.format(candidates=_FOUND.format(search=search(variant, *([Open] if leaving else [])))))
    )
    for variant in VARIANTS
    for leaving in (False, True)
}


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
    names, patterns = known.limited_types(request.types)
    kinds = known.limits.kinds
    values: dict[str, Any] = search_values(request) | {
        "worker": request.worker,
        "lease": request.lease_seconds,
        "change": known.version[0],
        "limited_types": names,
        "limited_patterns": patterns,
        **{f"limits_each_{column}": each in kinds for each, column in _EACH.items()},
    }
    if not closed.nothing:
        values |= Open(closed).values()
    statement = _CLAIM[Variant.of(request), not closed.nothing]
    return UnlimitedClaims(*bulk.granted(connection, statement, values, request.lease_seconds))
