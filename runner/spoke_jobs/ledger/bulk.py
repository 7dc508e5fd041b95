"""What a busy worker asks for many jobs at once: claims, heartbeats, successes.

On PostgreSQL each is one statement, and so one journey and one commit. SQLite has no statements that write several
tables; there the steps stand in one transaction, which nobody else writes beside. One suite holds both to the same.

Attempts are locked in the order of their ids, so that two statements of one worker never wait for each other in a ring.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Integer, bindparam, or_, select, text, tuple_

from spoke_jobs.ledger import claims, transitions
from spoke_jobs.ledger.claim_cursor import Place
from spoke_jobs.ledger.clock import clock_now
from spoke_jobs.ledger.expressions import known_in_sql
from spoke_jobs.ledger.rows import REQUEST_COLUMNS, to_request
from spoke_jobs.ledger.tables import job_request, queue_lock
from spoke_jobs.ledger.transitions import constant
from spoke_jobs.model import RETENTION_SECONDS, Claim, JobState, Progress, Pulse
from spoke_jobs.type_names import SUFFIX

_COLUMNS = ", ".join(f"r.{column.name}" for column in REQUEST_COLUMNS)

_CLAIM = f"""
WITH candidates AS MATERIALIZED (
    SELECT id, locks_queue, queue_name, rank
    FROM job_request
    WHERE state = 'waiting' AND runner = :runner
      AND (run_after IS NULL OR run_after <= clock_timestamp())
      AND (start_by IS NULL OR attempt > 0 OR start_by > clock_timestamp())
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
    UPDATE job_request r
    SET state = 'running', assigned = true, attempt = r.attempt + 1, status = 0, result_message = '',
        run_after = NULL, started_at = coalesce(r.started_at, clock_timestamp()), updated_at = clock_timestamp()
    FROM granted WHERE r.id = granted.id
    RETURNING {_COLUMNS}, granted.token AS claim_token
), attempts AS (
    INSERT INTO job_attempt
        (job_id, run, number, token, state, worker, claimed_at, heartbeat_at, lease_expires_at)
    SELECT id, run, attempt, claim_token, 'running', :worker, clock_timestamp(), clock_timestamp(),
        clock_timestamp() + make_interval(secs => :lease)
    FROM started
)
SELECT started.*, looked.candidates
FROM (SELECT count(*) AS candidates FROM candidates) looked LEFT JOIN started ON true ORDER BY rank, id
"""  # noqa: S608  (column names)
_PLACE = "AND (rank, id) >= (:rank, :after)"

_BEAT = """
WITH given AS (
    SELECT * FROM unnest(cast(:tokens AS uuid[]), cast(:percents AS integer[]), cast(:messages AS text[]))
        AS t(token, percent, message)
), locked AS (
    SELECT a.id, given.percent, given.message
    FROM job_attempt a JOIN given ON a.token = given.token
    WHERE a.state = 'running' ORDER BY a.id FOR UPDATE OF a
), held AS (
    UPDATE job_attempt a
    SET heartbeat_at = clock_timestamp(), lease_expires_at = clock_timestamp() + make_interval(secs => :lease)
    FROM locked WHERE a.id = locked.id
    RETURNING a.job_id, a.token, locked.percent, locked.message
), told AS (
    UPDATE job_request r
    SET status = held.percent, result_message = held.message, updated_at = clock_timestamp()
    FROM held WHERE r.id = held.job_id AND r.state = 'running' AND held.percent IS NOT NULL
)
SELECT held.token, r.cancel_requested_at IS NOT NULL AS cancelled
FROM held JOIN job_request r ON r.id = held.job_id
"""

_SUCCEED = f"""
WITH given AS (
    SELECT * FROM unnest(cast(:tokens AS uuid[]), cast(:results AS text[])) AS t(token, result)
), locked AS (
    SELECT a.id, given.result
    FROM job_attempt a JOIN given ON a.token = given.token
    WHERE a.state = 'running' ORDER BY a.id FOR UPDATE OF a
), ended AS (
    UPDATE job_attempt a
    SET state = 'succeeded', finished_at = clock_timestamp(), heartbeat_at = clock_timestamp()
    FROM locked WHERE a.id = locked.id
    RETURNING a.job_id, a.token, locked.result
), freed AS (
    DELETE FROM queue_lock WHERE token IN (SELECT token FROM ended)
), finished AS (
    UPDATE job_request r
    SET state = 'succeeded', status = 100, result = cast(ended.result AS json), cause = '',
        finished_at = clock_timestamp(), updated_at = clock_timestamp(),
        expires_at = clock_timestamp() + make_interval(secs => coalesce(
            cast(r.options ->> 'retentionSeconds' AS double precision), {RETENTION_SECONDS}))
    FROM ended WHERE r.id = ended.job_id
)
SELECT token FROM ended
"""  # noqa: S608  (a constant)


def claim_batch(
    connection: Connection,
    runner: str,
    types: Collection[str],
    worker: str,
    lease_seconds: float,
    limit: int,
    place: Place | None = None,
) -> tuple[list[Claim], int]:
    """Claim up to ``limit`` due jobs of the types, by priority, then by age; of a queue that is locked, one at most.

    :param place: leave out what stands before it in that order.
    :returns: the claims, and how many jobs were looked at that could have been claimed but for their queues.
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
    candidates = found[0]["candidates"]  # there is a row even if nothing was granted
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
    """Renew many leases; with them, the progress of those that report some."""
    if connection.dialect.name != "postgresql":
        return {
            token: transitions.heartbeat(connection, token, lease_seconds, said) for token, said in progress.items()
        }
    said = list(progress.values())
    values = {
        "tokens": list(progress),
        "percents": [item.percent if item else None for item in said],
        "messages": [transitions.storable(item.message) if item else None for item in said],
        "lease": lease_seconds,
    }
    held = {
        row.token: Pulse.CANCELLED if row.cancelled else Pulse.HELD for row in connection.execute(_BEAT_TEXT, values)
    }
    return {token: held.get(token, Pulse.GONE) for token in progress}


def succeed_many(connection: Connection, results: Mapping[UUID, Any]) -> set[UUID]:
    """Record many successes; the tokens that held their claims, and so count."""
    if connection.dialect.name != "postgresql":
        return {token for token, result in results.items() if transitions.try_succeed(connection, token, result)}
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
        or_(job_request.c.run_after.is_(None), job_request.c.run_after <= clock_now()),
        or_(job_request.c.start_by.is_(None), job_request.c.attempt > 0, job_request.c.start_by > clock_now()),
        or_(~job_request.c.locks_queue, job_request.c.queue_name.not_in(select(queue_lock.c.queue_name))),
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
    """The statement with its rows read as the tables' columns are."""
    columns = {column.name: column.type for column in REQUEST_COLUMNS}
    # The limit stands in the text: a plan that is kept for the prepared statement then knows that the rows are few, and
    # looks them up rather than reading the table.
    limit = bindparam("limit", type_=Integer, literal_execute=True)
    return text(statement).bindparams(limit).columns(**columns)


_CLAIM_FROM_HEAD = _typed(_CLAIM.format(place=""))
_CLAIM_FROM_PLACE = _typed(_CLAIM.format(place=_PLACE))
_BEAT_TEXT = text(_BEAT)
_SUCCEED_TEXT = text(_SUCCEED)
