"""Claims, heartbeats and successes of a busy worker, in batches.

On PostgreSQL a batch is one statement, one round trip and one commit. SQLite has no statement that writes several
tables. There the steps run in one transaction, which excludes other writers. One contract suite covers both.

Attempts are locked in the order of their ids, so that two statements of one worker cannot deadlock.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Integer, bindparam, func, literal_column, select, text, tuple_

from spoke_jobs.ledger import claims, finish, transitions
from spoke_jobs.ledger.claim_cursor import Place
from spoke_jobs.ledger.clock import DATABASE_CLOCK, clock_now
from spoke_jobs.ledger.expressions import (
    assignments,
    constant,
    due,
    known_in_sql,
    postgresql_text,
    queue_free,
    retention,
    within_start_timeout,
)
from spoke_jobs.ledger.rows import REQUEST_COLUMNS, to_request
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import Claim, JobState, Progress, Pulse
from spoke_jobs.type_names import SUFFIX

_COLUMNS = ", ".join(f"job_request.{column.name}" for column in REQUEST_COLUMNS)
_LEASE: Any = literal_column(":lease")
_JOB_CLAIMED = assignments(
    transitions.job_claimed(
        DATABASE_CLOCK, job_request.c.attempt + 1, func.coalesce(job_request.c.started_at, clock_now())
    )
)
_NEW_ATTEMPT = transitions.new_attempt(
    DATABASE_CLOCK,
    literal_column("id"),
    literal_column("run"),
    literal_column("attempt"),
    literal_column(":worker"),
    _LEASE,
) | {"token": literal_column("claim_token")}
_LEASE_RENEWED = assignments(transitions.lease_renewed(DATABASE_CLOCK, _LEASE))
_JOB_PROGRESSED = assignments(
    transitions.job_progressed(DATABASE_CLOCK, literal_column("held.percent"), literal_column("held.message"))
)
_ATTEMPT_SUCCEEDED = assignments(transitions.attempt_succeeded(DATABASE_CLOCK))
_JOB_SUCCEEDED = assignments(
    transitions.job_succeeded(DATABASE_CLOCK, literal_column("cast(ended.result AS json)"), retention())
)

_CLAIM = f"""
WITH candidates AS MATERIALIZED (
    SELECT id, locks_queue, queue_name, rank
    FROM job_request
    WHERE state = 'waiting' AND runner = :runner
      AND ({postgresql_text(due())})
      AND ({postgresql_text(within_start_timeout())})
      AND (job_type = ANY(:names) OR job_type LIKE ANY(:patterns))
      AND NOT (locks_queue AND queue_name IN (SELECT queue_name FROM queue_lock))
      {{place}}
    ORDER BY rank, id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
), chosen AS (
    SELECT *, gen_random_uuid() AS token FROM candidates WHERE NOT locks_queue
    UNION ALL
    (SELECT DISTINCT ON (queue_name) *, gen_random_uuid() FROM candidates WHERE locks_queue
     ORDER BY queue_name, rank, id)
), locks AS (
    INSERT INTO queue_lock (queue_name, job_id, token, acquired_at)
    SELECT queue_name, id, token, clock_timestamp() FROM chosen WHERE locks_queue ORDER BY queue_name
    ON CONFLICT (queue_name) DO NOTHING
    RETURNING job_id
), granted AS (
    SELECT id, token FROM chosen WHERE NOT locks_queue OR id IN (SELECT job_id FROM locks)
), started AS (
    UPDATE job_request
    SET {_JOB_CLAIMED}
    FROM granted WHERE job_request.id = granted.id
    RETURNING {_COLUMNS}, granted.token AS claim_token
), attempts AS (
    INSERT INTO job_attempt ({", ".join(_NEW_ATTEMPT)})
    SELECT {", ".join(map(postgresql_text, _NEW_ATTEMPT.values()))}
    FROM started
)
SELECT started.*, examined.candidates
FROM (SELECT count(*) AS candidates FROM candidates) examined LEFT JOIN started ON true ORDER BY rank, id
"""  # noqa: S608  (columns and constants)
_PLACE = "AND (rank, id) >= (:rank, :after)"

_HEARTBEAT = f"""
WITH given AS (
    SELECT * FROM unnest(cast(:tokens AS uuid[]), cast(:percents AS integer[]), cast(:messages AS text[]))
        AS t(token, percent, message)
), locked AS (
    SELECT a.id, given.percent, given.message
    FROM job_attempt a JOIN given ON a.token = given.token
    WHERE a.state = 'running' ORDER BY a.id FOR UPDATE OF a
), held AS (
    UPDATE job_attempt a
    SET {_LEASE_RENEWED}
    FROM locked WHERE a.id = locked.id
    RETURNING a.job_id, a.token, locked.percent, locked.message
), progressed AS (
    UPDATE job_request
    SET {_JOB_PROGRESSED}
    FROM held WHERE job_request.id = held.job_id AND job_request.state = 'running' AND held.percent IS NOT NULL
)
SELECT held.token, r.cancel_requested_at IS NOT NULL AS cancelled
FROM held JOIN job_request r ON r.id = held.job_id
"""  # noqa: S608  (columns and constants)

_SUCCEED = f"""
WITH given AS (
    SELECT * FROM unnest(cast(:tokens AS uuid[]), cast(:results AS text[])) AS t(token, result)
), locked AS (
    SELECT a.id, given.result
    FROM job_attempt a JOIN given ON a.token = given.token
    WHERE a.state = 'running' ORDER BY a.id FOR UPDATE OF a
), ended AS (
    UPDATE job_attempt a
    SET {_ATTEMPT_SUCCEEDED}
    FROM locked WHERE a.id = locked.id
    RETURNING a.job_id, a.token, locked.result
), freed AS (
    DELETE FROM queue_lock WHERE token IN (SELECT token FROM ended)
), finished AS (
    UPDATE job_request
    SET {_JOB_SUCCEEDED}
    FROM ended WHERE job_request.id = ended.job_id
)
SELECT token FROM ended
"""  # noqa: S608  (columns and constants)


def claim_batch(
    connection: Connection,
    runner: str,
    types: Collection[str],
    worker: str,
    lease_seconds: float,
    limit: int,
    place: Place | None = None,
) -> tuple[list[Claim], int]:
    """Claim up to ``limit`` due jobs of the types, by priority, then by age. A locked queue gets at most one claim.

    :param place: skip the jobs before this place in that order.
    :returns: the claims, and the number of candidates before the queue locks were taken.
    """
    if connection.dialect.name != "postgresql":
        return _claim_in_steps(connection, runner, types, worker, lease_seconds, limit, place)
    statement = _CLAIM_FROM_PLACE if place is not None else _CLAIM_FROM_HEAD
    values: dict[str, Any] = {
        "runner": runner,
        "names": [name for name in types if not name.endswith(SUFFIX)],
        "patterns": [_escaped(name.removesuffix("*")) + "%" for name in types if name.endswith(SUFFIX)],
        "worker": worker,
        "lease": lease_seconds,
        "limit": limit,
    }
    if place is not None:
        values["rank"], values["after"] = place
    rows = connection.execute(statement, values).mappings().all()
    found = [dict(row) for row in rows]
    candidates = found[0]["candidates"]  # the query returns a row even if no claim was granted
    granted = []
    for row in found:
        if row["id"] is None:
            continue
        token = row.pop("claim_token")
        del row["candidates"]
        job = to_request(row)  # type: ignore[arg-type]
        granted.append(Claim(job, job.attempt, token, lease_seconds))
    return granted, candidates


def heartbeats(
    connection: Connection, progress: Mapping[UUID, Progress | None], lease_seconds: float
) -> dict[UUID, Pulse]:
    """Renew many leases, and record the progress that is given."""
    if connection.dialect.name != "postgresql":
        return {token: finish.heartbeat(connection, token, lease_seconds, given) for token, given in progress.items()}
    given = list(progress.values())
    values = {
        "tokens": list(progress),
        "percents": [item.percent if item else None for item in given],
        "messages": [transitions.storable(item.message) if item else None for item in given],
        "lease": lease_seconds,
    }
    held = {
        row.token: Pulse.CANCELLED if row.cancelled else Pulse.HELD
        for row in connection.execute(_HEARTBEAT_TEXT, values)
    }
    return {token: held.get(token, Pulse.GONE) for token in progress}


def succeed_many(connection: Connection, results: Mapping[UUID, Any]) -> set[UUID]:
    """Record many successes. Return the tokens whose claims were valid."""
    if connection.dialect.name != "postgresql":
        return {token for token, result in results.items() if finish.try_succeed(connection, token, result)}
    values = {
        "tokens": list(results),
        "results": [None if result is None else json.dumps(result) for result in results.values()],
    }
    return set(connection.scalars(_SUCCEED_TEXT, values))


def _claim_in_steps(
    connection: Connection,
    runner: str,
    types: Collection[str],
    worker: str,
    lease_seconds: float,
    limit: int,
    place: Place | None,
) -> tuple[list[Claim], int]:
    statement = select(*REQUEST_COLUMNS).where(
        job_request.c.state == constant(JobState.WAITING),
        job_request.c.runner == runner,
        known_in_sql(job_request.c.job_type, types),
        due(),
        within_start_timeout(),
        queue_free(),
    )
    if place is not None:
        statement = statement.where(tuple_(job_request.c.rank, job_request.c.id) >= place)
    rows = connection.execute(statement.order_by(job_request.c.rank, job_request.c.id).limit(limit)).mappings().all()
    granted = []
    for row in rows:
        job, token = to_request(row), uuid.uuid4()
        if not job.locks_queue or claims.take_lock(connection, job, token):
            granted.append(claims.start(connection, job, job.attempt + 1, token, worker, lease_seconds))
    return granted, len(rows)


def _escaped(prefix: str) -> str:
    return prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _typed(statement: str) -> Any:
    """Give the statement's result the types of the table's columns."""
    columns = {column.name: column.type for column in REQUEST_COLUMNS}
    # The limit is a constant in the text: the generic plan of the prepared statement then expects few rows and uses
    # an index instead of a sequential scan.
    limit = bindparam("limit", type_=Integer, literal_execute=True)
    return text(statement).bindparams(limit).columns(**columns)


_CLAIM_FROM_HEAD = _typed(_CLAIM.format(place=""))
_CLAIM_FROM_PLACE = _typed(_CLAIM.format(place=_PLACE))
_HEARTBEAT_TEXT = text(_HEARTBEAT)
_SUCCEED_TEXT = text(_SUCCEED)
