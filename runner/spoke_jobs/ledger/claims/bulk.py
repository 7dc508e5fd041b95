"""Claims of a busy worker, in batches.

On PostgreSQL a batch is one statement, one round trip and one commit. SQLite has no statement that writes several
tables. There the steps run in one transaction, which excludes other writers. One contract suite covers both.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    RowMapping,
    TextClause,
    Uuid,
    column,
    exists,
    func,
    literal_column,
    select,
    text,
)

from spoke_jobs.ledger.claims import single_claim
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.due_jobs import VARIANTS, Variant, found_in_steps, search, search_text, search_values
from spoke_jobs.ledger.columns.clock import DATABASE_CLOCK, UTCDateTime, clock_now
from spoke_jobs.ledger.columns.column_types import as_read
from spoke_jobs.ledger.lifecycle import transitions
from spoke_jobs.ledger.rows import MANY_COLUMNS, to_request
from spoke_jobs.ledger.sql.expressions import (
    assignments,
    increased,
    postgresql_text,
)
from spoke_jobs.ledger.tables import job_limit, job_request, sql_name
from spoke_jobs.model import Claim

JOB_REQUEST, JOB_ATTEMPT, QUEUE_LOCK, JOB_LIMIT = map(
    sql_name, ("job_request", "job_attempt", "queue_lock", "job_limit")
)
_COLUMNS = ", ".join(f"{postgresql_text(as_read(each))} AS {each.name}" for each in MANY_COLUMNS)
_LEASE: Any = literal_column(":lease")
_JOB_CLAIMED = assignments(
    transitions.job_claimed(
        DATABASE_CLOCK, increased(job_request.c.attempt), func.coalesce(job_request.c.started_at, clock_now())
    )
)
_NEW_ATTEMPT = transitions.new_attempt(
    DATABASE_CLOCK,
    literal_column("id"),
    literal_column("run"),
    literal_column("attempt"),
    literal_column("runner"),
    literal_column("due_at"),
    literal_column(":worker"),
    _LEASE,
) | {"token": literal_column("claim_token")}

DUE_AT = "greatest(created_at, run_after) AS due_at"
"""Since when a job has been due. A claim moves that from the job's row to the attempt's."""

_EXAMINED = "examined AS (SELECT count(*) AS candidates, (SELECT count(*) FROM limited) AS limits FROM candidates)"
# If there are limits, this claims nothing (see limited_claims). FOR KEY SHARE locks the table, and so waits for a
# change in progress, before the statement's snapshot is taken. It locks no row of an empty table, and writes nothing.
_UNLIMITED = f"""
limited AS MATERIALIZED (SELECT 1 FROM {JOB_LIMIT} LIMIT 1 FOR KEY SHARE),
candidates AS MATERIALIZED (
    SELECT id, locks_queue, queue_name, rank, {DUE_AT}
    FROM {JOB_REQUEST}
    WHERE NOT EXISTS (SELECT 1 FROM limited) AND {{search}}
    FOR UPDATE SKIP LOCKED
), {_EXAMINED}"""  # noqa: S608  (constants)
_GIVEN = f"""
limited AS (SELECT 1 WHERE false),
candidates AS MATERIALIZED (
    SELECT id, locks_queue, queue_name, rank, {DUE_AT} FROM {JOB_REQUEST} WHERE id = ANY(:ids)
), {_EXAMINED}"""  # noqa: S608  (constants)
_QUEUE_LOCK_WAIT = "1s"
"""How long a claim waits for a transaction that has taken a queue's lock and is not committed: a job's own, perhaps."""
CLAIM = f"""
WITH {{candidates}}, chosen AS (
    SELECT *, gen_random_uuid() AS token FROM candidates WHERE NOT locks_queue
    UNION ALL
    (SELECT DISTINCT ON (queue_name) *, gen_random_uuid() FROM candidates
     WHERE locks_queue AND (SELECT set_config('lock_timeout', '{_QUEUE_LOCK_WAIT}', true)) IS NOT NULL
     ORDER BY queue_name, rank, id)
), locks AS (
    INSERT INTO {QUEUE_LOCK} (queue_name, job_id, token, acquired_at)
    SELECT queue_name, id, token, clock_timestamp() FROM chosen WHERE locks_queue ORDER BY queue_name
    ON CONFLICT (queue_name) DO NOTHING
    RETURNING job_id
), granted AS (
    SELECT id, token, due_at FROM chosen WHERE NOT locks_queue OR id IN (SELECT job_id FROM locks)
), started AS (
    UPDATE {JOB_REQUEST}
    SET {_JOB_CLAIMED}
    FROM granted WHERE job_request.id = granted.id
    RETURNING {_COLUMNS}, granted.token AS claim_token, granted.due_at
), attempts AS (
    INSERT INTO {JOB_ATTEMPT} ({", ".join(_NEW_ATTEMPT)})
    SELECT {", ".join(map(postgresql_text, _NEW_ATTEMPT.values()))}
    FROM started
)
SELECT started.*, examined.candidates, examined.limits
FROM examined LEFT JOIN started ON true ORDER BY rank, id
"""  # noqa: S608  (columns and constants)


def claim_batch(connection: Connection, request: ClaimRequest) -> tuple[list[Claim], int] | None:
    """Claim due jobs, by priority, then by age. A locked queue gets at most one claim.

    :returns: the claims, and the number of candidates before the queue locks were taken; None if there are limits.
    """
    if connection.dialect.name != "postgresql":
        return _claim_in_steps(connection, request)
    statement = _CLAIM_FOUND[Variant.of(request)]
    values = search_values(request) | {"worker": request.worker, "lease": request.lease_seconds}
    claims, candidates, limits = granted(connection, statement, values, request.lease_seconds)
    return None if limits else (claims, candidates)


def claim_given(connection: Connection, ids: Collection[int], worker: str, lease_seconds: float) -> list[Claim]:
    """Claim jobs whose rows the transaction has locked, unless another job takes their queue's lock (PostgreSQL)."""
    values = {"ids": list(ids), "worker": worker, "lease": lease_seconds}
    return granted(connection, _CLAIM_GIVEN, values, lease_seconds)[0]


def granted(
    connection: Connection, statement: Any, values: Mapping[str, Any], lease_seconds: float
) -> tuple[list[Claim], int, int]:
    """Run a statement with :data:`CLAIM`. Return the claims and the counts of its CTE `examined`."""
    result = connection.execute(statement, values)
    names = tuple(result.keys())
    found = [dict(zip(names, row, strict=True)) for row in result]
    candidates, limits = found[0]["candidates"], found[0]["limits"]  # there is a row even if no claim was granted
    claims = []
    for row in found:
        if row["id"] is None:
            continue
        token, due_at = row.pop("claim_token"), row.pop("due_at")
        del row["candidates"], row["limits"]
        job = to_request(row)  # type: ignore[arg-type]
        claims.append(Claim(job, job.attempt, token, lease_seconds, due_at=due_at))
    return claims, candidates, limits


def _claim_in_steps(connection: Connection, request: ClaimRequest) -> tuple[list[Claim], int] | None:
    unlimited = ~exists(select(literal_column("1")).select_from(job_limit))
    rows = found_in_steps(connection, request, unlimited)
    if not rows and connection.scalar(select(job_limit.c.id).limit(1)) is not None:
        return None
    return claim_rows(connection, rows, request.worker, request.lease_seconds), len(rows)


def claim_rows(connection: Connection, rows: Sequence[RowMapping], worker: str, lease_seconds: float) -> list[Claim]:
    """Claim the jobs of the rows, unless another job takes their queue's lock (SQLite)."""
    found = []
    for row in rows:
        job, token = to_request(row), uuid.uuid4()
        if not job.locks_queue or single_claim.take_lock(connection, job, token):
            found.append(single_claim.start(connection, job, job.attempt + 1, token, worker, lease_seconds))
    return found


def typed(statement: TextClause) -> Any:
    """Give the result of :data:`CLAIM` the types of its columns, in their order.

    By their names, SQLAlchemy would match them anew at each execution.
    """
    counts = (column("candidates", Integer()), column("limits", Integer()))
    granted_as = (column("claim_token", Uuid()), column("due_at", UTCDateTime()))
    return statement.columns(*(column(each.name, each.type) for each in MANY_COLUMNS), *granted_as, *counts)


_CLAIM_FOUND = {
    variant: typed(search_text(CLAIM.format(candidates=_UNLIMITED.format(search=search(variant)))))
    for variant in VARIANTS
}
_CLAIM_GIVEN = typed(text(CLAIM.format(candidates=_GIVEN)))
