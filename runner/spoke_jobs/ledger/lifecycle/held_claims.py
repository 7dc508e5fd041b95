"""Renew the leases of claims, and record their successes, many at a time.

On PostgreSQL a batch is one statement, one round trip and one commit. SQLite has no statement that writes several
tables. There the steps run in one transaction, which excludes other writers. One contract suite covers both.

Attempts are locked in the order of their ids, so that two statements of one worker cannot deadlock.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, literal_column, text

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.ledger.columns.clock import DATABASE_CLOCK
from spoke_jobs.ledger.dependencies import dependency_rows
from spoke_jobs.ledger.lifecycle import finish, transitions
from spoke_jobs.ledger.sql.each_alone import change_alone
from spoke_jobs.ledger.sql.expressions import array_text, assignments, postgresql_text, retention, unfinished
from spoke_jobs.ledger.tables import sql_name
from spoke_jobs.model import UNMEASURED, USAGE_FIELDS, AttemptUsage, Progress, Pulse
from spoke_jobs.shared.clean_text import storable

_JOB_REQUEST, _JOB_ATTEMPT, _QUEUE_LOCK = map(sql_name, ("job_request", "job_attempt", "queue_lock"))
_LEASE_RENEWED = assignments(transitions.lease_renewed(DATABASE_CLOCK, literal_column(":lease")))
_JOB_PROGRESSED = assignments(
    transitions.job_progressed(DATABASE_CLOCK, literal_column("free.percent"), literal_column("free.message"))
)
_ATTEMPT_SUCCEEDED = assignments(
    transitions.attempt_succeeded(DATABASE_CLOCK, {name: literal_column(f"finished.{name}") for name in USAGE_FIELDS})
)
_USAGE = ", ".join(USAGE_FIELDS)
_UNFINISHED = postgresql_text(unfinished())
_JOB_SUCCEEDED = {
    keep: assignments(
        transitions.job_succeeded(
            DATABASE_CLOCK,
            literal_column("cast(ended.result AS json)"),
            literal_column("coalesce(ended.message, job_request.result_message)"),
            retention() if keep else literal_column("0.0"),
        )
    )
    for keep in (True, False)
}
_HEARTBEAT = f"""
WITH given AS (
    SELECT * FROM unnest(cast(:tokens AS uuid[]), cast(:percents AS integer[]), cast(:messages AS text[]))
        AS t(token, percent, message)
), locked AS (
    SELECT a.id, given.percent, given.message
    FROM {_JOB_ATTEMPT} a JOIN given ON a.token = given.token
    WHERE a.state = 'running' ORDER BY a.id FOR UPDATE OF a {{skip}}
), held AS (
    UPDATE {_JOB_ATTEMPT} a
    SET {_LEASE_RENEWED}
    FROM locked WHERE a.id = locked.id
    RETURNING a.job_id, a.token, locked.percent, locked.message
), free AS (
    SELECT r.id, held.percent, held.message
    FROM {_JOB_REQUEST} r JOIN held ON r.id = held.job_id
    WHERE r.state = 'running' AND held.percent IS NOT NULL
    FOR NO KEY UPDATE OF r {{skip}}
), progressed AS (
    UPDATE {_JOB_REQUEST}
    SET {_JOB_PROGRESSED}
    FROM free WHERE job_request.id = free.id
)
SELECT held.token, r.cancel_requested_at IS NOT NULL AS cancelled, true AS renewed,
    held.percent IS NULL OR r.id IN (SELECT id FROM free) AS written
FROM held JOIN {_JOB_REQUEST} r ON r.id = held.job_id
UNION ALL
SELECT a.token, false, false, false
FROM {_JOB_ATTEMPT} a JOIN given ON a.token = given.token
WHERE a.state = 'running' AND a.id NOT IN (SELECT id FROM locked)
"""  # noqa: S608  (columns and constants)

_SUCCEED = f"""
WITH given AS (
    SELECT * FROM unnest(cast(:tokens AS uuid[]), cast(:results AS text[]), cast(:messages AS text[]),
        {", ".join(f"cast(:{name} AS bigint[])" for name in USAGE_FIELDS)})
        AS t(token, result, message, {_USAGE})
), locked AS (
    SELECT a.id, a.job_id, given.result, given.message, {", ".join(f"given.{name}" for name in USAGE_FIELDS)}
    FROM {_JOB_ATTEMPT} a JOIN given ON a.token = given.token
    WHERE a.state = 'running' ORDER BY a.id FOR UPDATE OF a
), finished AS (
    UPDATE {_JOB_REQUEST}
    SET {{changes}}
    FROM (SELECT * FROM locked ORDER BY job_id) ended
    WHERE job_request.id = ended.job_id AND {_UNFINISHED} {{which}}
    RETURNING ended.id, {", ".join(f"ended.{name}" for name in USAGE_FIELDS)}
), done AS (
    UPDATE {_JOB_ATTEMPT} a
    SET {_ATTEMPT_SUCCEEDED}
    FROM finished WHERE a.id = finished.id
    RETURNING a.token, a.job_id
), freed AS (
    DELETE FROM {_QUEUE_LOCK} WHERE token IN (SELECT token FROM done)
)
SELECT token, job_id FROM done
"""  # noqa: S608  (columns and constants)
_HEARTBEAT_TEXT = {wait: text(_HEARTBEAT.format(skip="" if wait else "SKIP LOCKED")) for wait in (False, True)}
_SUCCEED_TEXT = {
    keep: text(_SUCCEED.format(changes=changes, which="AND NOT job_request.awaited"))
    for keep, changes in _JOB_SUCCEEDED.items()
}
_SUCCEED_AWAITED = {keep: text(_SUCCEED.format(changes=changes, which="")) for keep, changes in _JOB_SUCCEEDED.items()}


def heartbeats(
    connection: Connection, progress: Mapping[UUID, Progress | None], lease_seconds: float, *, wait: bool = False
) -> dict[UUID, Pulse]:
    """Renew many leases, and record the progress that is given.

    :param wait: wait for other transactions that have locked a claim. Otherwise leave out such claims.
    """
    if connection.dialect.name != "postgresql":
        return {token: finish.heartbeat(connection, token, lease_seconds, given) for token, given in progress.items()}
    given = list(progress.values())
    values = {
        "tokens": array_text(progress),
        "percents": array_text(item.percent if item else None for item in given),
        "messages": array_text(storable(item.message) if item else None for item in given),
        "lease": lease_seconds,
    }
    found = connection.execute(_HEARTBEAT_TEXT[wait], values).all()
    held = {row.token: _pulse(row.cancelled, row.written) for row in found if row.renewed}
    # After a wait, such a claim has ended meanwhile: the statement still sees it as it was.
    locked = set() if wait else {row.token for row in found if not row.renewed}
    return {token: held.get(token, Pulse.GONE) for token in progress if token not in locked}


def _pulse(cancelled: bool, written: bool) -> Pulse:
    if cancelled:
        return Pulse.CANCELLED
    return Pulse.HELD if written else Pulse.UNWRITTEN


def succeed_many(
    connection: Connection,
    results: Mapping[UUID, Any],
    progress: Mapping[UUID, Progress],
    usage: Mapping[UUID, AttemptUsage],
    *,
    keep: bool = True,
) -> set[UUID]:
    """Record many successes. Return the tokens whose claims were valid.

    On PostgreSQL leave out jobs that others depend on, or a batch: :func:`succeed_awaited` ends them.

    :param progress: each job's last progress, unless it is already recorded.
    :param keep: see :func:`spoke_jobs.ledger.lifecycle.finish.succeed`.
    """
    if connection.dialect.name != "postgresql":
        return {
            token
            for token, result in results.items()
            if finish.try_succeed(
                connection, token, result, progress.get(token), usage.get(token, UNMEASURED), keep=keep
            )
        }
    return set(connection.scalars(_SUCCEED_TEXT[keep], _successes(results, progress, usage)))


def succeed_awaited(
    connection: Connection,
    results: Mapping[UUID, Any],
    progress: Mapping[UUID, Progress],
    usage: Mapping[UUID, AttemptUsage],
    *,
    keep: bool = True,
) -> set[UUID]:
    """Record successes also of jobs that others depend on, with what follows from them. Only for PostgreSQL."""
    statement, given = _SUCCEED_AWAITED[keep], _successes(results, progress, usage)
    ended: Sequence[Any] = ()
    if len(results) > 1:
        savepoint = connection.begin_nested()  # a rollback to it releases the locks
        ended = connection.execute(statement, given).all()
        if _lock_in_order(connection, {row.job_id for row in ended}):
            savepoint.commit()
        else:
            savepoint.rollback()
            ended = ()
            # A row that another transaction holds for long makes only what depends on it wait, as in settle_many.
            change_alone(connection, partial(dependency_rows.lock_with_dependents, connection, results))
    ended = ended or connection.execute(statement, given).all()
    finish.settle_many(connection, [row.job_id for row in ended])
    return {row.token for row in ended}


def _lock_in_order(connection: Connection, ended: Collection[int]) -> bool:
    """Tell whether all jobs that depend on these have larger ids, as those of one job do, so they may be locked next.

    These are locked, so neither a dispatch nor a retry makes others depend on them.
    """
    return len(ended) < 2 or max(ended) < min(dependency_rows.dependents(connection, ended), default=LARGEST_ID)


def _successes(
    results: Mapping[UUID, Any], progress: Mapping[UUID, Progress], usage: Mapping[UUID, AttemptUsage]
) -> dict[str, Any]:
    measured = [usage.get(token, UNMEASURED) for token in results]
    return {name: array_text(getattr(one, name) for one in measured) for name in USAGE_FIELDS} | {
        "tokens": array_text(results),
        "results": array_text(None if result is None else json.dumps(result) for result in results.values()),
        "messages": array_text(storable(progress[token].message) if token in progress else None for token in results),
    }
