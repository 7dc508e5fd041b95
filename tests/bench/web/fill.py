"""The SQL statements that fill the database. Pure.

All values follow from a row's id and the time, by PostgreSQL's hash of it: two fills differ in times only. Statements
have no parameters, so that a percent sign is the remainder, and a time is a literal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import NamedTuple

from tests.bench.web.layout import (
    AREAS,
    DAYS,
    FINGERPRINTS,
    JOBS_PER_BATCH,
    LOCKED_QUEUES,
    ORGANIZATIONS,
    POD_EVERY,
    QUEUES,
    RARE_CAUSE,
    RARE_FINGERPRINT,
    RARE_QUEUE,
    RARE_TYPE,
    SCHEDULES,
    SMALL_ORGANIZATION,
    TASKS,
    TYPES,
    Lane,
    Layout,
)

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.ledger.engine import SCHEMA_VERSION
from spoke_jobs.model import JobOptions

CHUNK = 250_000
"""How many jobs one statement writes."""
RETENTION_SECONDS = 45 * 86_400.0
"""Of each job, so that those of 30 days are still there."""
ORGANIZATION_AT, QUEUE_AT, TYPE_AT, CAUSE_AT, FINGERPRINT_AT = 3, 5, 7, 13, 17
"""Remainders of ids that have a rare value."""
_TRACEBACK = r"""Traceback (most recent call last):
  File "/app/shop/orders.py", line 118, in send
    deliver(order, retries=3)
  File "/app/shop/delivery.py", line 41, in deliver
    raise ValueError(f"the address {order.address!r} is not valid")
ValueError: the address is not valid"""


class Step(NamedTuple):
    """A statement, and what it does."""

    what: str
    statement: str


def fingerprint(layout: Layout) -> str:
    """Identify the history: another one is written if its statements or the tables have changed."""
    parts = [SCHEMA_VERSION, *(step.statement for step in history(layout, "now"))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def history(layout: Layout, now: str) -> Iterator[Step]:
    """Yield what writes the rows that later runs take.

    :param now: the time in ISO format.
    """
    until = f"(TIMESTAMPTZ '{now}' - INTERVAL '1 day')"
    age = f"(INTERVAL '1 day' * ({DAYS - 1} * CAST({layout.history} - id AS float8) / {layout.history}))"
    for first in range(1, layout.history + 1, CHUNK):
        last = min(first + CHUNK - 1, layout.history)
        ids = f"SELECT id, {until} - {age} AS created_at FROM generate_series({first}::bigint, {last}::bigint) AS id"
        yield Step(f"finished jobs {first:,} to {last:,}", _finished(layout, ids))
    first = layout.history - layout.history // 10 + 1
    yield Step(f"attempts of {layout.history - first + 1:,} finished jobs", _attempts(first, layout.history))
    yield Step("batches", _batches())
    yield Step(f"{layout.events:,} events", _events(layout, now))


def clearing(layout: Layout) -> Iterator[Step]:
    """Yield what deletes the recent rows of an earlier run, and whatever was measured with them."""
    yield Step("dependencies", "TRUNCATE job_dependency, queue_lock, job_checkpoint, attempt_report")
    yield Step("tasks", "TRUNCATE task_outbox RESTART IDENTITY")
    yield Step("jobs", f"DELETE FROM job_request WHERE id > {layout.history}")
    yield Step("events", f"DELETE FROM job_event WHERE id > {layout.events}")
    for table in ("job_schedule", "job_limit", "notice_mute", "task_replica"):
        yield Step(table, f"DELETE FROM {table}")


def recent(layout: Layout, now: str) -> Iterator[Step]:
    """Yield what writes the rows that each run writes again."""
    for number in range(0, layout.recent_finished, CHUNK):
        last = min(number + CHUNK, layout.recent_finished) - 1
        yield Step(
            f"{last - number + 1:,} jobs that ended today",
            _finished(layout, _recent_ids(layout, Lane.FINISHED, now, number, last)),
        )
    yield Step(f"{layout.waiting:,} waiting jobs", _waiting(layout, now))
    yield Step("running jobs", _running(layout, now))
    yield Step("blocked jobs", _blocked(layout, now))
    yield Step("attempts", _attempts(layout.history + 1, layout.last_id))
    yield Step("running attempts", _running_attempts(layout, now))
    yield Step("locks", _locks())
    yield Step("dependencies", _dependencies(layout))
    yield Step(
        "what they wait for", "UPDATE job_request SET awaited = true WHERE id IN (SELECT needs_id FROM job_dependency)"
    )
    yield Step("the times of tasks are kept", "ALTER TABLE task_outbox DISABLE TRIGGER USER")
    yield Step(f"{TASKS:,} tasks", _tasks(now))
    yield Step("the times of tasks are checked", "ALTER TABLE task_outbox ENABLE TRIGGER USER")
    yield Step("limits", _limits())
    yield Step("mutes", _mutes(now))
    yield Step("replicas", _replicas())
    for table in ("job_request", "job_attempt", "job_event", "job_batch"):
        yield Step("numbers", f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")


def _share(salt: int) -> str:
    """A number from 0 to 1 that follows from the id."""
    return f"((hashint8extended(id, {salt}) & 1048575) / CAST(1048576 AS float8))"


def _drawn(layout: Layout, ids: str) -> str:
    """The common part of all jobs, as the table `drawn`.

    :param ids: selects ids and times of dispatch.
    """
    rare, old = layout.rare_every, layout.history // 2
    areas = ", ".join(f"'{name}'" for name in AREAS)
    return f"""
    numbered AS (
        SELECT id, created_at, id <= {old} AS old,
            CAST(floor({TYPES - 1} * {_share(1)} ^ 2) AS int) AS type_number,
            1 + CAST(floor({ORGANIZATIONS - 1} * {_share(2)} ^ 2) AS int) AS organization_number,
            {_share(3)} AS outcome, {_share(4)} AS detail, {_share(5)} AS place,
            id % 10 = 0 AND id >= {layout.first_batched} AND id <= {layout.history} AS batched
        FROM ({ids}) AS given
    ), drawn AS (
        SELECT id, created_at, outcome, detail, place, old, md5(CAST(id AS text))::uuid AS uid,
            CASE WHEN old AND id % {rare} = {TYPE_AT} THEN '{RARE_TYPE}'
                ELSE (ARRAY[{areas}])[1 + type_number % {len(AREAS)}] || '.task' || type_number END AS job_type,
            '{{"customer": ' || id % 100000 || ', "items": [17, 4, 2001], "note": "'
                || repeat('left at the door ', 4) || '"}}' AS payload,
            CASE WHEN old AND id % {rare} = {QUEUE_AT} THEN '{RARE_QUEUE}'
                WHEN place < 0.6 THEN ''
                ELSE 'queue' || CAST(floor({QUEUES} * (place - 0.6) / 0.4) AS int) END AS queue_name,
            CASE WHEN id % {rare} = {ORGANIZATION_AT} AND id <= {layout.history} THEN {SMALL_ORGANIZATION}
                WHEN batched THEN 1 + (id / {JOBS_PER_BATCH} * 7919) % {ORGANIZATIONS - 1}
                ELSE organization_number END AS organization_id,
            id % 500 AS campaign_id,
            CASE WHEN id % {POD_EVERY} = 0 THEN 'kubernetes' ELSE 'legacy' END AS runner,
            CAST('{_options()}' AS json) AS options,
            CASE WHEN id % 10 = 3 THEN 'order:' || id END AS unique_key,
            CASE WHEN batched THEN id / {JOBS_PER_BATCH} END AS batch_id
        FROM numbered
    )"""


_COLUMNS = (
    "id, uid, job_type, payload, queue_name, organization_id, campaign_id, runner, options, unique_key, batch_id, "
    "created_at"
)


def _options() -> str:
    """The options of each job, as a dispatch writes them."""
    return json.dumps(JobOptions(retry=RetryPolicy(), retention_seconds=RETENTION_SECONDS).to_json())


def _recent_ids(layout: Layout, lane: Lane, now: str, first: int, last: int) -> str:
    """Select the ids of recent jobs of a lane, and times of the last day, as :meth:`Layout.recent_id` has them."""
    count = layout.counted(lane)
    return f"""
        SELECT {layout.history + 1} + 4 * (number * {layout.span} / {count}) + {lane.value} AS id,
            TIMESTAMPTZ '{now}' - INTERVAL '3 minutes'
                - INTERVAL '1 day' * (1 - CAST(number AS float8) / {count}) AS created_at
        FROM generate_series({first}::bigint, {last}::bigint) AS number"""


def _all_of(layout: Layout, lane: Lane, now: str) -> str:
    return _recent_ids(layout, lane, now, 0, layout.counted(lane) - 1)


def _finished(layout: Layout, ids: str) -> str:
    """Jobs that have ended: three in a hundred have failed."""
    rare = f"old AND id % {layout.rare_every}"
    return f"""
INSERT INTO job_request ({_COLUMNS}, schedule, scheduled_for, status, result_message, updated_at, state, attempt,
    submitted_at, started_at, finished_at, expires_at, cause, fingerprint, result)
WITH {_drawn(layout, ids)}, ended AS (
    SELECT *, created_at + INTERVAL '1 second' * (20 * detail) AS started_at,
        created_at + INTERVAL '1 second' * (21 * detail + 60 * place) AS finished_at,
        CASE WHEN {rare} = {CAUSE_AT} THEN '{RARE_CAUSE}'
            WHEN {rare} = {FINGERPRINT_AT} THEN 'JobError'
            WHEN outcome < 0.97 THEN ''
            WHEN detail < 0.70 THEN 'JobError'
            WHEN detail < 0.80 THEN 'Timeout'
            WHEN detail < 0.88 THEN 'Cancelled'
            WHEN detail < 0.94 THEN 'OutOfMemory'
            ELSE 'WorkerLost' END AS cause
    FROM drawn
)
SELECT {_COLUMNS},
    CASE WHEN id % 20 = 1 THEN 'schedule-' || lpad(CAST(id / 20 % {SCHEDULES} AS text), 4, '0') END,
    CASE WHEN id % 20 = 1 THEN created_at END,
    CASE WHEN cause = '' THEN 100 ELSE -1 END,
    CASE WHEN cause = '' THEN '' ELSE 'ValueError: the address of the order ' || id || ' is not valid' END,
    finished_at, CASE WHEN cause = '' THEN 'succeeded' ELSE 'failed' END, 1,
    CASE WHEN runner = 'kubernetes' THEN created_at END, started_at, finished_at,
    finished_at + INTERVAL '1 second' * {RETENTION_SECONDS}, cause,
    CASE WHEN cause = 'JobError' THEN CASE WHEN {rare} = {FINGERPRINT_AT} THEN '{RARE_FINGERPRINT}'
        ELSE 'ValueError@shop.orders.step' || CAST(floor({FINGERPRINTS} * place ^ 2) AS int) END ELSE '' END,
    CASE WHEN cause = '' AND id % 10 = 4 THEN CAST('{{"sent": 3, "skipped": 0}}' AS json) END
FROM ended"""


def _waiting(layout: Layout, now: str) -> str:
    """Of 100 waiting jobs, 15 are not due yet, 5 of these after a failure; 3 lock a queue that another job holds."""
    return f"""
INSERT INTO job_request ({_COLUMNS}, locks_queue, rank, run_after, status, updated_at, state, attempt, cause,
    fingerprint)
WITH {_drawn(layout, _all_of(layout, Lane.WAITING, now))}
SELECT {_COLUMNS.replace("queue_name", _lockable("place < 0.03"))}, place < 0.03,
    CASE WHEN outcome < 0.05 THEN -10 ELSE 0 END,
    CASE WHEN detail > 0.85 THEN TIMESTAMPTZ '{now}' + INTERVAL '1 day' * (0.01 + detail - 0.85) END,
    0, created_at, 'waiting', CASE WHEN detail > 0.95 THEN 1 ELSE 0 END,
    CASE WHEN detail > 0.95 THEN 'JobError' ELSE '' END,
    CASE WHEN detail > 0.95 THEN 'ValueError@shop.orders.step' || CAST(floor({FINGERPRINTS} * place ^ 2) AS int)
        ELSE '' END
FROM drawn"""


def _lockable(condition: str) -> str:
    """The column `queue_name` of jobs of which some lock a queue."""
    return f"CASE WHEN {condition} THEN 'one-at-a-time-' || id % {LOCKED_QUEUES} ELSE queue_name END"


def _running(layout: Layout, now: str) -> str:
    """Jobs whose leases are valid for the length of a run. The first ones hold the lock of a queue each."""
    number = "(row_number() OVER (ORDER BY id) - 1)"
    queue = f"CASE WHEN {number} < {LOCKED_QUEUES} THEN 'one-at-a-time-' || {number} ELSE queue_name END"
    return f"""
INSERT INTO job_request ({_COLUMNS}, locks_queue, assigned, status, result_message, updated_at, state, attempt,
    submitted_at, started_at)
WITH {_drawn(layout, _all_of(layout, Lane.RUNNING, now))}
SELECT {_COLUMNS.replace("queue_name", queue)}, {number} < {LOCKED_QUEUES}, true, 40, 'sending', created_at,
    'running', 1, CASE WHEN runner = 'kubernetes' THEN created_at END, created_at
FROM drawn"""


def _blocked(layout: Layout, now: str) -> str:
    return f"""
INSERT INTO job_request ({_COLUMNS}, open_dependencies, updated_at, state)
WITH {_drawn(layout, _all_of(layout, Lane.BLOCKED, now))}
SELECT {_COLUMNS}, 1, created_at, 'blocked' FROM drawn"""


def _attempts(first: int, last: int) -> str:
    """One attempt of each job that has ended; of those that failed, with the end of a traceback."""
    return f"""
INSERT INTO job_attempt (id, job_id, run, number, state, worker, claimed_at, heartbeat_at, lease_expires_at,
    finished_at, cause, error_type, output_tail, runner, peak_memory_bytes, cpu_milliseconds, wall_milliseconds, token)
SELECT id, id, 1, 1, state, 'host-' || id % 8 || ':' || 100 + id % 5, started_at, finished_at,
    finished_at + INTERVAL '30 seconds', finished_at, cause,
    CASE WHEN cause = 'JobError' THEN 'builtins.ValueError' ELSE '' END,
    CASE WHEN cause = 'JobError' THEN '{_TRACEBACK.replace("'", "''")}' ELSE '' END, runner,
    80000000 + id % 1000 * 100000, 100 + id % 3000, 200 + id % 60000, md5('attempt ' || id)::uuid
FROM job_request
WHERE id BETWEEN {first} AND {last} AND state IN ('succeeded', 'failed')
ORDER BY id"""


def _running_attempts(layout: Layout, now: str) -> str:
    return f"""
INSERT INTO job_attempt (id, job_id, run, number, state, worker, claimed_at, heartbeat_at, lease_expires_at, runner,
    token)
SELECT id, id, 1, 1, 'running', 'host-' || id % 8 || ':' || 100 + id % 5, started_at, TIMESTAMPTZ '{now}',
    TIMESTAMPTZ '{now}' + INTERVAL '1 day', runner, md5('attempt ' || id)::uuid
FROM job_request
WHERE id > {layout.history} AND state = 'running'"""


def _locks() -> str:
    return """
INSERT INTO queue_lock (queue_name, job_id, token, acquired_at)
SELECT job_request.queue_name, job_request.id, job_attempt.token, job_attempt.claimed_at
FROM job_attempt JOIN job_request ON job_request.id = job_attempt.job_id
WHERE job_attempt.state = 'running' AND job_request.locks_queue"""


def _dependencies(layout: Layout) -> str:
    """Each blocked job depends on the waiting one at the same place, which has a lower id."""
    first, waiting, blocked = layout.history + 1, layout.waiting, layout.counted(Lane.BLOCKED)
    return f"""
INSERT INTO job_dependency (job_id, needs_id, open, runs_after_failure)
SELECT {first} + 4 * (number * {layout.span} / {blocked}) + {Lane.BLOCKED.value},
    {first} + 4 * (number * {waiting} / {blocked} * {layout.span} / {waiting}) + {Lane.WAITING.value}, true, false
FROM generate_series(0::bigint, {blocked - 1}::bigint) AS number"""


def _batches() -> str:
    """Batches that have finished, with the counts of their jobs."""
    return """
INSERT INTO job_batch (id, name, total, succeeded, failed, created_at, closed_at, finished_at)
SELECT batch_id, 'nightly of customer ' || min(organization_id), count(*),
    count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state = 'failed'),
    min(created_at), min(created_at), max(finished_at)
FROM job_request WHERE batch_id IS NOT NULL GROUP BY batch_id"""


def _events(layout: Layout, now: str) -> str:
    """Events of a year, of jobs of the history."""
    actions = "'cancel', 'retry', 'retry', 'cancel', 'run schedule', 'prune', 'set limit', 'mute'"
    return f"""
INSERT INTO job_event (id, at, actor, action, job_id, job_type, detail)
SELECT id, TIMESTAMPTZ '{now}' - INTERVAL '1 day'
        - INTERVAL '364 days' * (CAST({layout.events} - id AS float8) / {layout.events}),
    CASE WHEN id % {layout.events // 10} = 7 AND id <= {layout.events // 2} THEN '{RARE_ACTOR}'
        ELSE 'user' || CAST(floor(200 * {_share(6)} ^ 2) AS int) || '@example.com' END,
    (ARRAY[{actions}])[1 + id % 8],
    CASE WHEN id % 8 < 4 THEN 1 + CAST(floor({layout.history} * {_share(7)}) AS bigint) END,
    CASE WHEN id % 8 < 4 THEN 'mail.task' || 8 * CAST(floor(100 * {_share(8)}) AS int) ELSE '' END, ''
FROM generate_series(1::bigint, {layout.events}::bigint) AS id"""


RARE_ACTOR = "left@example.com"
"""Somebody with some five events, over half a year ago."""


def _tasks(now: str) -> str:
    """Of ten tasks, four are due, four are not, one is claimed, one has failed."""
    return f"""
INSERT INTO task_outbox (id, uid, runner, name, payload, state, attempt, worker, created_at, due_at, finished_at,
    expires_at, cause, error_type, token)
SELECT id, md5('task ' || id)::uuid, 'legacy', 'deliver.task' || CAST(floor(50 * {_share(9)} ^ 2) AS int),
    '{{"message": ' || id || ', "text": "' || repeat('hello ', 10) || '"}}',
    CASE WHEN id % 10 = 8 THEN 'failed' ELSE 'pending' END, 1 + id % 3 / 2,
    CASE WHEN id % 10 IN (8, 9) THEN 'tasks-' || id % 4 ELSE '' END,
    TIMESTAMPTZ '{now}' - INTERVAL '1 hour' * (1 - CAST(id AS float8) / {TASKS}),
    CASE WHEN id % 10 BETWEEN 4 AND 7 OR id % 10 = 9 THEN TIMESTAMPTZ '{now}' + INTERVAL '1 day' * {_share(10)}
        ELSE TIMESTAMPTZ '{now}' - INTERVAL '1 hour' * (1 - CAST(id AS float8) / {TASKS}) END,
    CASE WHEN id % 10 = 8 THEN TIMESTAMPTZ '{now}' END,
    CASE WHEN id % 10 = 8 THEN TIMESTAMPTZ '{now}' + INTERVAL '7 days' * {_share(11)} END,
    CASE WHEN id % 10 = 8 THEN CASE WHEN id % 100 = 8 THEN 'Timeout' ELSE 'TaskError' END ELSE '' END,
    CASE WHEN id % 10 = 8 THEN 'builtins.ValueError' ELSE '' END,
    CASE WHEN id % 10 = 9 THEN md5('claim ' || id)::uuid END
FROM generate_series(1::bigint, {TASKS}::bigint) AS id"""


def _limits() -> str:
    """A limit of a type, one of an organization and a rate of a queue: then waiting jobs differ by all three."""
    return """
INSERT INTO job_limit (scope, max_running, rate_count, rate_seconds, updated_at)
VALUES ('type:mail.task8', 5, NULL, NULL, now()), ('organization:17', 2, NULL, NULL, now()),
    ('queue:queue5', NULL, 60, 60, now())"""


def _replicas() -> str:
    return """
INSERT INTO task_replica (name, started_at, seen_at, slots, used, used_async)
SELECT 'tasks-' || number, now(), now(), 8, number % 9, 0 FROM generate_series(1, 50) AS number
"""


def _mutes(now: str) -> str:
    return f"""
INSERT INTO notice_mute (job_type, cause, fingerprint, until, reason, muted_by, muted_at)
SELECT NULL, 'JobError', 'ValueError@shop.orders.step' || number, TIMESTAMPTZ '{now}' + INTERVAL '7 days',
    'known since the last release', 'user1@example.com', TIMESTAMPTZ '{now}'
FROM generate_series(1, 20) AS number"""
