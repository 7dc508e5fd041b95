"""What PostgreSQL reads for the queries of a running system: indexes of only the rows that they can find.

With much history and with the plans that it keeps for prepared statements, which know no parameter's value.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.sql import Literal
from sqlalchemy import Connection, event, text
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, new_job
from tests.ledger_databases import LedgerDatabases

from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.claims.claim_cursor import ClaimCursor
from spoke_jobs.ledger.claims.claim_request import SearchedJobs
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.ledger.job_batch import BatchFilter
from spoke_jobs.ledger.notices import notice_rows, notice_values
from spoke_jobs.ledger.outbox import outbox_queries
from spoke_jobs.ledger.outbox.outbox_queries import OutboxQueries, TaskFilter
from spoke_jobs.ledger.outbox_row import TaskState
from spoke_jobs.ledger.reading import (
    crowd,
    dashboard_queries,
    due_counts,
    ended_counts,
    job_listing,
    outbox_counts,
    queue_counts,
    takers,
    usage_queries,
)
from spoke_jobs.ledger.reading.chart_periods import PERIODS
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.reading.failed_jobs import failed_jobs
from spoke_jobs.ledger.reading.listing_plan import Place
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import Bounds, parse_scope
from spoke_jobs.model import ANY_CLAIM, ANY_JOB, JobFilter, JobState

TYPES = ["report", "ingest.*"]
HISTORY = """
INSERT INTO job_request (payload, queue_name, job_type, updated_at, created_at, uid, state, runner, options,
    finished_at, expires_at, start_by, attempt, submitted_at)
SELECT '{}', '', 'report', now(), now(), gen_random_uuid(),
    CASE WHEN n <= 20000 THEN 'succeeded' WHEN n <= 20050 THEN 'running' ELSE 'waiting' END, runner, '{}',
    CASE WHEN n <= 20000 THEN now() END, CASE WHEN n <= 20000 THEN now() + n * interval '1 minute' END,
    CASE WHEN n % 2 = 0 THEN now() + n * interval '1 minute' END, 0,
    CASE WHEN runner = 'kubernetes' AND n <= 21950 THEN now() END
FROM unnest(ARRAY['legacy', 'kubernetes']) AS runner, generate_series(1, 22000) AS n
"""
"""Of each runner. Of those that wait for the cluster, 50 are not launched yet."""
ATTEMPTS = """
INSERT INTO job_attempt (job_id, run, number, token, state, worker, claimed_at, heartbeat_at, lease_expires_at)
SELECT id, 1, 1, gen_random_uuid(), state, 'w', now(), now(), now() + (60 + id % 50) * interval '1 minute'
FROM job_request WHERE state <> 'waiting'
"""
TASKS = """
INSERT INTO task_outbox (uid, runner, name, payload, state, attempt, losses, worker, created_at, due_at, finished_at,
    expires_at, cause, error_type)
SELECT gen_random_uuid(), 'kubernetes', 'send', '{}', CASE WHEN n % 2 = 0 THEN 'failed' ELSE 'pending' END, 1, 0, '',
    now(), now(), CASE WHEN n % 2 = 0 THEN now() END, CASE WHEN n % 2 = 0 THEN now() + n * interval '1 minute' END,
    'TaskError', ''
FROM generate_series(1, 20000) AS n
"""


@pytest.fixture(scope="module")
def history(shared_postgres_ledger_url: str) -> str:
    """A database with history, which takes 15 times as long to make as to copy."""
    for opened in open_ledger(shared_postgres_ledger_url):
        execute(opened, HISTORY, ATTEMPTS, "VACUUM ANALYZE job_request", "VACUUM ANALYZE job_attempt")
    return shared_postgres_ledger_url


@pytest.fixture
def ledger(history: str, _ledger_databases: LedgerDatabases) -> Iterator[SqlLedger]:
    """A copy of one's own, for what changes many rows."""
    with _ledger_databases.copied(history) as url:
        yield from open_ledger(url)


@pytest.fixture(scope="module")
def unchanged(history: str, _ledger_databases: LedgerDatabases) -> Iterator[SqlLedger]:
    with _ledger_databases.copied(history) as url:
        yield from open_ledger(url)


@pytest.fixture
def shared(unchanged: SqlLedger) -> SqlLedger:
    """On one copy for all tests that change no more than a few rows."""
    return SqlLedger(unchanged.engine)


@pytest.fixture(scope="module")
def spread(history: str, _ledger_databases: LedgerDatabases) -> Iterator[SqlLedger]:
    """One in which a tenth of the jobs that wait are due, and some lock queues; for tests that change few rows."""
    later = "UPDATE job_request SET run_after = now() + interval '1 day' WHERE state = 'waiting' AND id % 10 > 0"
    queues = "UPDATE job_request SET queue_name = 'q' || id % 7, locks_queue = id % 3 = 0, organization_id = id % 5"
    with _ledger_databases.copied(history) as url:
        for opened in open_ledger(url):
            execute(opened, later, queues, "VACUUM ANALYZE job_request")
            yield opened


def execute(ledger: SqlLedger, *statements: str) -> None:
    """Execute statements, each by itself."""
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement))


def plans(ledger: SqlLedger, call: Callable[[], object], options: str = "") -> list[Any]:
    """The generic plans of the statements that a call sends, as for prepared statements."""
    sent: list[tuple[str, dict[str, Any]]] = []
    caller = threading.get_ident()

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if threading.get_ident() == caller:  # another thread sends the notifications of earlier changes
            sent.append((statement, parameters))

    event.listen(ledger.engine, "before_cursor_execute", note)
    try:
        call()
    finally:
        event.remove(ledger.engine, "before_cursor_execute", note)
    found = []
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        raw: Any = connection.connection.driver_connection
        for number, (statement, parameters) in enumerate(sent):
            names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
            numbered = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", statement)  # noqa: B023
            values = ", ".join(Literal(parameters[name]).as_string(raw) for name in names)
            raw.execute(f"PREPARE p{number} AS {numbered.replace('%%', '%')}")
            given = f"({values})" if values else ""
            row = raw.execute(f"EXPLAIN (FORMAT JSON{options}) EXECUTE p{number}{given}").fetchone()
            raw.execute(f"DEALLOCATE p{number}")  # the connection may serve the next call
            found.append(row[0])
    return found


def scans(plan: Any) -> set[tuple[str, str]]:
    """The tables that a plan reads, with the index that it uses."""
    if isinstance(plan, list):
        return set().union(*(scans(part) for part in plan))
    if not isinstance(plan, dict):
        return set()
    found = set().union(*(scans(part) for part in plan.values()))
    if plan.get("Node Type") == "Seq Scan":
        found.add((plan["Relation Name"], ""))
    if "Index Name" in plan:
        found.add((plan.get("Relation Name", ""), plan["Index Name"]))
    return found


def indexes(plan: Any) -> set[str]:
    """The indexes that a plan uses, also for a bitmap."""
    return {name for _, name in scans(plan) if name}


def bounded(plan: Any, index: str) -> bool:
    """Whether the scan of the index is bounded, not of the whole index."""
    return re.search(rf'"Index Name": "{index}"[^{{}}]*"Index Cond"', json.dumps(plan)) is not None


def rows_read(plan: Any) -> int:
    """The most rows that a part of an executed plan has read or passed over."""
    if isinstance(plan, list):
        return max(map(rows_read, plan), default=0)
    if not isinstance(plan, dict):
        return 0
    here = plan.get("Actual Rows", 0) + plan.get("Rows Removed by Filter", 0)
    return max(int(here) * int(plan.get("Actual Loops", 1)), rows_read([*plan.values()]))


def claim(ledger: SqlLedger) -> None:
    ledger.claim_batch("legacy", TYPES, "w", LEASE, 8)


def claim_from_a_place(ledger: SqlLedger) -> None:
    jobs = SearchedJobs("legacy", tuple(TYPES), ANY_CLAIM)
    ledger._claims.cursors[jobs] = ClaimCursor(place=(0, 20_100), head_due=float("inf"))
    ledger.claim_batch("legacy", TYPES, "w", LEASE, 8)


QUERIES = {
    "a claim": (claim, "ix_job_request_due"),
    "a claim from a place": (claim_from_a_place, "ix_job_request_due"),
    "the reaper": (lambda ledger: ledger.reap("legacy"), "ix_job_attempt_running"),
    "start timeouts": (lambda ledger: ledger.expire_starts("legacy", TYPES), "ix_job_request_start_by"),
    "retention": (lambda ledger: ledger.prune(), "ix_job_request_expires_at"),
}


@pytest.mark.parametrize("query", QUERIES)
def test_history_isn_t_read(shared: SqlLedger, query: str) -> None:
    call, index = QUERIES[query]
    found = plans(shared, lambda: call(shared))
    # Events and batches are deleted, too. The first claim looks for organizations.
    assert len(found) == {"retention": 3, "a claim": 2, "a claim from a place": 2}.get(query, 1)
    plan = found[-1 if "claim" in query else 0]
    read = scans(plan)
    assert index in {name for _, name in read}
    assert not {("job_request", ""), ("job_attempt", "")} & read
    assert bounded(plan, index)
    if query == "a claim":  # it passes over the jobs that are not due in the index
        due = r'"Index Name": "ix_job_request_due"[^{}]*"Index Cond": "[^"]*COALESCE\(run_after'
        assert re.search(due, json.dumps(plan)), "reading each row takes ten times as long"


def test_why_of_all_jobs_reads_no_history(shared: SqlLedger) -> None:
    def count() -> None:
        with shared.engine.connect() as connection:
            crowd.failed_counts(connection, 3600)

    (plan,) = plans(shared, count)
    assert scans(plan) == {("job_request", "ix_job_request_failed")}


def test_the_overview_of_one_organization_reads_no_history_of_others(ledger: SqlLedger) -> None:
    failed = "UPDATE job_request SET state = 'failed', finished_at = now() - interval '2 days' WHERE id % 2 = 0"
    execute(ledger, f"{failed} AND state = 'succeeded'", "VACUUM ANALYZE job_request")
    queries, one = DashboardQueries(ledger.engine), JobFilter(organizations=frozenset({1}))

    def overview() -> None:
        queries.crowd(86_400, one, dashboard_queries.CAP)
        queries.counts(one)
        queries.due(one)
        queries.recent_names(one)

    found = plans(ledger, overview, ", ANALYZE")
    assert len(found) >= 9
    assert rows_read(found) <= 4_000, "the waiting jobs, and no others"


def test_due_jobs_and_queues_are_counted_in_a_bounded_number_of_rows(
    spread: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((due_counts, "EXAMINED"), (queue_counts, "EXAMINED"), (queue_counts, "NEWEST_ATTEMPTS")):
        monkeypatch.setattr(module, name, 100)
    spread.limits.pause(parse_scope("organization:3"), "they asked")
    queries = DashboardQueries(spread.engine)
    limits = [state.limit for state in queries.limits()]
    due = plans(spread, lambda: queries.due(ANY_JOB), ", ANALYZE")
    queues = plans(spread, lambda: queries.queues(ANY_JOB, limits), ", ANALYZE")
    assert rows_read(due) <= 100
    assert rows_read(queues) <= 200, "100 waiting jobs, or 100 attempts, and those that run"
    for found in (due, queues):
        assert "ix_job_request_due" in indexes(found)
        assert ("job_request", "") not in scans(found)
    spread.limits.resume(parse_scope("organization:3"))


def test_the_largest_share_of_the_due_jobs_is_found_in_a_bounded_number_of_rows(spread: SqlLedger) -> None:
    """Each of the two runners has half of the rows. Those that run are looked up from their attempts."""

    def share() -> None:
        with spread.engine.connect() as connection:
            found = crowd.largest_shares(connection, ["legacy"], ANY_JOB, 100)
        assert found["legacy"].job_type == "report"
        assert 0 < found["legacy"].waiting <= 50

    found = plans(spread, share, ", ANALYZE")
    assert rows_read(found) <= 100, "100 waiting jobs, or the 100 that run"
    assert "ix_job_request_due" in indexes(found)
    assert not {("job_request", ""), ("job_attempt", "")} & scans(found)


def test_the_jobs_before_a_waiting_one_are_counted_in_a_bounded_number_of_rows(spread: SqlLedger) -> None:
    last = spread.insert(new_job(queue_name="q1", locks_queue=True))
    queries = DashboardQueries(spread.engine)
    found = plans(spread, lambda: queries.situation(last.id, 50), ", ANALYZE")
    looked = [plan for plan in found if "ix_job_request_due" in indexes(plan)]
    assert len(looked) == 2, "those before it, and those of whose organizations some take turns with its own"
    assert rows_read(looked) <= 50
    assert all(bounded(plan, "ix_job_request_due") for plan in looked)


def test_failures_are_grouped_and_counted_in_a_bounded_number_of_rows(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard_queries, "GROUPED", 200)
    failed = "UPDATE job_request SET state = 'failed', cause = 'JobError', finished_at = now() - id * interval '1 s'"
    execute(ledger, f"{failed} WHERE state = 'succeeded' AND id % 2 = 0", "VACUUM ANALYZE job_request")
    queries = DashboardQueries(ledger.engine)

    def failures() -> None:
        (each,) = queries.failures(30 * 86_400, ANY_JOB).failed
        assert each.count == 200
        queries.failed_types(30 * 86_400, ANY_JOB, {("JobError", "")})
        queries.output_tails({each.newest_id})

    found = plans(ledger, failures, ", ANALYZE")
    assert rows_read(found) <= 200
    assert ("job_request", "") not in scans(found)
    assert "ix_job_request_failed" in indexes(found)
    for period in PERIODS.values():
        found = plans(ledger, lambda: queries.failed_by_time(period, ANY_JOB, {("JobError", "")}), ", ANALYZE")  # noqa: B023
        assert rows_read(found) <= 200, period
        assert scans(found) == {("job_request", "ix_job_request_failed")}
    with ledger.engine.connect() as connection:  # as a worker's scrape
        since = datetime.now(UTC) - timedelta(hours=1)
        plan = plans(ledger, lambda: failed_jobs(connection, "legacy", since))[-1]
    assert scans(plan) == {("job_request", "ix_job_request_failed")}
    execute(ledger, "UPDATE job_request SET organization_id = 3 WHERE id % 1000 = 0", "VACUUM ANALYZE job_request")
    one = JobFilter(organizations=frozenset({3}))
    found = plans(ledger, lambda: queries.failures(30 * 86_400, one), ", ANALYZE")
    assert rows_read(found) <= 200, "those of the organization, however old"
    assert "ix_job_request_ended" in indexes(found)


EVENTS = """
INSERT INTO job_event (at, actor, action, job_id, job_type, detail)
SELECT now(), 'ada', 'cancel', n, 'report', '' FROM generate_series(1, 20000) AS n
"""
BATCHES = """
INSERT INTO job_batch (name, total, succeeded, failed, created_at)
SELECT 'nightly', 1, 0, 0, now() FROM generate_series(1, 20000) AS n
"""


def test_pages_of_events_and_batches_look_through_a_bounded_number_of_rows(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOKED_THROUGH", "LOOKED_THROUGH_FOR_SOME"):
        monkeypatch.setattr(audit_events, name, 200)
    monkeypatch.setattr(dashboard_queries, "BATCHES_LOOKED_THROUGH", 200)
    of_batches = "UPDATE job_request SET batch_id = id, organization_id = 2 WHERE id <= 20000"
    execute(ledger, EVENTS, BATCHES, of_batches, "VACUUM ANALYZE job_event, job_batch, job_request")
    queries, one = DashboardQueries(ledger.engine), frozenset({1})
    for events in (EventFilter(organizations=one), EventFilter(actor="nobody"), EventFilter(action="mute", before=900)):
        found = plans(ledger, lambda: queries.event_page(events, 50), ", ANALYZE")  # noqa: B023
        assert rows_read(found) <= 201, events
    for batches in (BatchFilter(organizations=one), BatchFilter("weekly*"), BatchFilter("weekly*", before=900)):
        found = plans(ledger, lambda: queries.batches(batches, 50), ", ANALYZE")  # noqa: B023
        assert rows_read(found) <= 201, batches


FAILED, WAITING = (JobState.FAILED,), (JobState.WAITING,)
MINE = frozenset({3})
LISTS: dict[JobFilter, set[str]] = {
    ANY_JOB: set(),
    JobFilter(states=FAILED): {"ix_job_request_failed_by_id"},
    JobFilter(states=FAILED, job_type="other*"): {"ix_job_request_failed_by_id"},
    JobFilter(states=WAITING): {"ix_job_request_due"},
    JobFilter(states=WAITING, job_type="other"): {"ix_job_request_due"},
    JobFilter(states=(JobState.RUNNING,)): {"uq_job_attempt_live"},
    JobFilter(states=(JobState.BLOCKED,)): {"ix_job_request_blocked"},
    JobFilter(states=(JobState.SUCCEEDED,)): set(),
    JobFilter(job_type="other"): {"ix_job_request_succeeded", "ix_job_request_failed_by_id", "ix_job_request_due"},
    JobFilter(job_type="report"): {"ix_job_request_succeeded"},
    JobFilter(job_type="other*"): set(),
    JobFilter(cause="Timeout"): {"ix_job_request_failed_by_id", "ix_job_request_due"},
    JobFilter(cause="JobError", fingerprint="E@app"): {"ix_job_request_failed_by_id"},
    JobFilter(queue_name="gone"): {"ix_job_request_queue_name"},
    JobFilter(queue_name="often", job_type="oth*"): {"ix_job_request_queue_name"},
    JobFilter(unique_key="gone"): {"ix_job_request_unique_key"},
    JobFilter(batch_id=1): {"ix_job_request_batch_id"},
    JobFilter(schedule="gone"): {"uq_job_request_schedule"},
    JobFilter(lane="standby"): set(),
    JobFilter(lane="worker"): set(),
    JobFilter(lane="pod", states=WAITING): {"ix_job_request_due"},
    JobFilter(lane="standby", states=FAILED): {"ix_job_request_failed_by_id"},
    JobFilter(organization_id=3): {"ix_job_request_ended", "ix_job_request_turns"},
    JobFilter(organization_id=999): {"ix_job_request_ended", "ix_job_request_turns"},
    JobFilter(organizations=MINE, states=FAILED, cause="Timeout"): {"ix_job_request_ended"},
    JobFilter(organizations=MINE, states=WAITING, job_type="other*"): {"ix_job_request_turns"},
    JobFilter(organizations=MINE, job_type="report"): {"ix_job_request_ended", "ix_job_request_turns"},
}
"""Filters of a list of jobs, and the indexes without which it would read more."""


def test_a_page_of_jobs_reads_a_bounded_number_of_rows(ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to say that there are none, far from the newest job, and before many are changed at once."""
    monkeypatch.setattr(job_listing, "LOOKED_THROUGH", 400)
    monkeypatch.setattr(job_listing, "SCATTERED", 200)
    failed = "state = 'succeeded' AND id % 9 = 0"
    execute(
        ledger,
        f"UPDATE job_request SET state = CASE WHEN {failed} THEN 'failed' ELSE state END, "
        f"cause = CASE WHEN {failed} THEN 'JobError' ELSE '' END, organization_id = id % 20, "
        "queue_name = CASE WHEN id % 7 = 0 THEN 'often' ELSE '' END, "
        "rank = CASE WHEN id % 11 = 0 THEN 5 ELSE 0 END",
        "VACUUM ANALYZE job_request",
    )
    queries = DashboardQueries(ledger.engine)
    for which, indexed in LISTS.items():
        for place in (Place(), Place(before=15_000), Place(after=15_000)):
            found = plans(ledger, lambda: queries.page(which, 50, place), ", ANALYZE")  # noqa: B023
            assert rows_read(found) <= 400, (which, place)
            assert indexed <= indexes(found), (which, place)
            assert not {("job_request", ""), ("job_attempt", "")} & scans(found), (which, place)
        found = plans(ledger, lambda: queries.chosen(which, 100), ", ANALYZE")  # noqa: B023
        assert rows_read(found) <= 400, which
    found = plans(ledger, lambda: queries.recent_names(JobFilter(organizations=MINE)), ", ANALYZE")
    assert rows_read(found) <= 1_001
    found = plans(ledger, lambda: queries.counts(JobFilter(organizations=MINE)), ", ANALYZE")
    assert "ix_job_request_ended" in indexes(found)
    assert rows_read(found) <= 4_000, "no more than wait"


def test_the_launch_backlog_is_counted_in_a_bounded_number_of_rows(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jobs that are not due yet are among them."""
    monkeypatch.setattr(dashboard_queries, "EXAMINED", 20)
    later = "UPDATE job_request SET run_after = now() + interval '1 day'"
    execute(ledger, f"{later} WHERE state = 'waiting' AND runner = 'kubernetes'", "VACUUM ANALYZE job_request")
    found = plans(ledger, DashboardQueries(ledger.engine).launch_backlog, ", ANALYZE")
    assert rows_read(found) <= 20
    assert "ix_job_request_unlaunched" in indexes(found)


def test_ended_jobs_are_counted_and_measured_in_a_bounded_number_of_rows(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EXAMINED", "FAILED_COUNTED"):
        monkeypatch.setattr(ended_counts, name, 200)
    monkeypatch.setattr(ended_counts, "SLICES", 40)
    execute(
        ledger,
        "UPDATE job_request SET state = 'failed', cause = 'JobError' WHERE id % 2 = 0 AND state = 'succeeded'",
        "UPDATE job_request SET attempt = 1, started_at = now(), organization_id = id % 20 WHERE id <= 20000",
        "UPDATE job_attempt SET finished_at = now() WHERE state = 'succeeded'",
        "VACUUM ANALYZE job_request, job_attempt",
    )
    queries = DashboardQueries(ledger.engine)
    two = JobFilter(organizations=frozenset({3, 4}))
    for period in PERIODS.values():
        found = plans(ledger, lambda: queries.ended(ANY_JOB, period), ", ANALYZE")  # noqa: B023
        assert rows_read(found) <= 200, period
        assert {("job_request", "ix_job_request_failed"), ("job_attempt", "pk_job_attempt")} <= scans(found)
        assert not {("job_request", ""), ("job_attempt", "")} & scans(found)
        found = plans(ledger, lambda: queries.ended(two, period), ", ANALYZE")  # noqa: B023
        assert rows_read(found) <= 200, "50 of each organization and each state"
        assert scans(found) == {("job_request", "ix_job_request_ended"), ("job_attempt", "uq_job_attempt_job_id")}
    ended = queries.ended(ANY_JOB, PERIODS["7d"])
    assert sum(ended.succeeded) > 5_000, "estimated from 200"


def test_the_outbox_is_counted_and_listed_in_a_bounded_number_of_rows(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EXAMINED", "FAILED_COUNTED", "_CLAIMS_EXAMINED"):
        monkeypatch.setattr(outbox_counts, name, 200)
    monkeypatch.setattr(outbox_queries, "LOOKED_THROUGH", 200)
    queries, tasks = DashboardQueries(ledger.engine), OutboxQueries(ledger.engine)
    claims = "UPDATE task_outbox SET token = gen_random_uuid(), due_at = now() + id * interval '1 hour'"
    for statement in (TASKS, f"{claims} WHERE state = 'pending' AND id % 3 = 0"):
        execute(ledger, statement, "VACUUM ANALYZE task_outbox")
        found = plans(ledger, queries.outbox, ", ANALYZE")
        assert rows_read(found) <= 400, "200 due tasks, and 200 others"
        assert "ix_task_outbox_due" in indexes(found)
        found = plans(ledger, queries.claiming_replicas, ", ANALYZE")
        assert rows_read(found) <= 201, "200 tasks that are not due, and one for the runner"
        assert "ix_task_outbox_due" in indexes(found)
    pending = "UPDATE task_outbox SET state = 'pending', finished_at = NULL, expires_at = NULL WHERE id % 500 > 0"
    execute(ledger, pending, "VACUUM ANALYZE task_outbox")
    failed = plans(ledger, lambda: tasks.page(TaskFilter((TaskState.FAILED,)), 50), ", ANALYZE")
    assert rows_read(failed) <= 50
    assert "ix_task_outbox_expires_at" in indexes(failed)
    for which in (TaskFilter((TaskState.LATER,)), TaskFilter(name="other*"), TaskFilter(cause="Timeout", before=9_000)):
        found = plans(ledger, lambda: tasks.page(which, 50), ", ANALYZE")  # noqa: B023
        assert rows_read(found) <= 201, which


def test_a_look_for_failures_reads_no_history(shared: SqlLedger) -> None:
    now = datetime.now(UTC)

    def look() -> None:
        with shared.engine.connect() as connection:
            notice_rows.unseen(connection, "webhook", notice_values.Place(now, now, now, None), 100)

    (plan,) = plans(shared, look)
    assert ("job_request", "ix_job_request_failed") in scans(plan)
    assert ("job_request", "") not in scans(plan)


def test_sizes_read_the_newest_successes_of_each_type_by_an_index(shared: SqlLedger) -> None:
    found = plans(shared, lambda: Queries(shared.engine).usage_by_type(ANY_JOB))
    first, newest, options, no_other = found
    assert {index for _, index in scans(options)} == {"pk_job_request"}
    for plan in (first, newest, no_other):
        assert bounded(plan, "ix_job_request_succeeded")
        assert not {("job_request", ""), ("job_attempt", "")} & scans(plan)


def test_the_newest_successes_of_several_types_are_read_by_an_index(shared: SqlLedger) -> None:
    """How long they take, and who ran them; each in one statement."""
    types = ["report", "export", "mail"]
    with shared.engine.connect() as connection:
        (usual,) = plans(shared, lambda: usage_queries.usual_seconds(connection, types), ", ANALYZE")
        workers = plans(shared, lambda: takers.takers_of(connection, "another", types), ", ANALYZE")
    assert rows_read(usual) <= 60, "20 of each type"
    assert bounded(usual, "ix_job_request_succeeded")
    (by_workers,) = (plan for plan in workers if "ix_job_request_succeeded" in indexes(plan))
    assert bounded(by_workers, "ix_job_request_succeeded")
    for plan in (usual, by_workers):
        assert not {("job_request", ""), ("job_attempt", "")} & scans(plan)


LINE = "ix_job_request_unlaunched_queue"
OF_SYNC: dict[str, tuple[Callable[[Connection], object], set[str]]] = {
    "what is to be launched": (
        lambda connection: syncing.unlaunched(connection, 1.5, [1, 2], 200),
        {"ix_job_request_unlaunched"},
    ),
    "the backlog": (syncing.backlog, {"ix_job_request_unlaunched"}),
    "what is claimed": (syncing.claimed, {"ix_job_attempt_running", "uq_job_attempt_live"}),
}
"""Sync's queries, with their indexes. One of these holds only rows that the query can find, and is read whole."""


@pytest.mark.parametrize("query", OF_SYNC)
def test_sync_reads_neither_history_nor_what_is_launched(shared: SqlLedger, query: str) -> None:
    call, indexes = OF_SYNC[query]
    with shared.engine.connect() as connection:
        (plan,) = plans(shared, lambda: call(connection))
    read = scans(plan)
    assert indexes & {name for _, name in read}
    assert not {("job_request", ""), ("job_attempt", "")} & read
    assert "ix_job_request_due" not in {name for _, name in read}


def test_changed_starts_are_found_from_the_events_since_the_last_look(ledger: SqlLedger) -> None:
    job = ledger.insert(new_job(runner="kubernetes"))
    execute(ledger, EVENTS, "VACUUM ANALYZE job_event")
    with ledger.engine.connect() as connection:
        last = syncing.last_event(connection)
    ledger.set_priority(job.id, 5)

    def look() -> None:
        with ledger.engine.connect() as connection:
            (found,), looked_to = syncing.changed_starts(connection, last)
        assert (found[0].id, found[0].priority, looked_to) == (job.id, 5, last + 1)

    events, jobs = plans(ledger, look, ", ANALYZE")
    assert scans(events) == {("job_event", "pk_job_event")}
    assert bounded(events, "pk_job_event")
    assert rows_read(events) == 1
    assert bounded(jobs, "pk_job_request")
    assert rows_read(jobs) <= 100, "at most the attempts that run"
    assert not {("job_request", ""), ("job_attempt", "")} & scans(jobs)


def test_a_comparison_reads_unfinished_jobs_only(shared: SqlLedger) -> None:
    with shared.engine.connect() as connection:
        (plan,) = plans(shared, lambda: syncing.unfinished(connection))
    read = scans(plan)
    assert not {("job_request", ""), ("job_attempt", "")} & read
    assert bounded(plan, "pk_job_request"), "only the jobs of running attempts are looked up"


def test_whether_an_older_job_of_its_queue_is_launched_is_looked_up(ledger: SqlLedger) -> None:
    """Thousands wait for their SpokeJobs, as after an outage of the API server."""
    locks = "UPDATE job_request SET locks_queue = true, queue_name = 'q' || id % 500, submitted_at = NULL"
    execute(ledger, f"{locks} WHERE state = 'waiting' AND runner = 'kubernetes'", "VACUUM ANALYZE job_request")
    job = ledger.insert(new_job(runner="kubernetes", queue_name="q1", locks_queue=True))
    for wait_seconds in (None, 1.5):
        with ledger.engine.connect() as connection:
            (plan,) = plans(ledger, lambda: syncing.may_launch(connection, job, wait_seconds))  # noqa: B023
        assert scans(plan) <= {("job_request", name) for name in (LINE, "pk_job_request", "uq_job_request_uid")}
        assert ("job_request", LINE) in scans(plan)


@pytest.mark.parametrize("query", ["heartbeats", "successes"])
def test_tokens_are_looked_up(shared: SqlLedger, query: str) -> None:
    claims = shared.claim_batch("legacy", TYPES, "w", LEASE, 16)
    tokens = {claim.token: None for claim in claims}

    def call() -> object:
        return shared.heartbeats(tokens, LEASE) if query == "heartbeats" else shared.succeed_many(tokens)

    (plan,) = plans(shared, call)
    assert not {("job_request", ""), ("job_attempt", "")} & scans(plan)


def test_claims_in_turns_read_only_the_first_jobs_of_each_organization(ledger: SqlLedger) -> None:
    """Two organizations, and jobs without one; 1,950 jobs wait."""
    execute(ledger, "UPDATE job_request SET organization_id = id % 3 WHERE id % 3 > 0", "VACUUM ANALYZE job_request")
    organizations, without, first, running, by_turns = plans(ledger, lambda: claim(ledger))
    assert indexes(organizations) == {"ix_job_request_turns"}
    assert bounded(organizations, "ix_job_request_turns")
    assert "ix_job_request_due" in indexes(without)
    assert indexes(first) == {"ix_job_request_turns"}
    assert indexes(by_turns) & {"pk_job_request", "ix_job_request_due"} == {"pk_job_request"}
    for plan in (organizations, without, first, running, by_turns):
        assert not {("job_request", ""), ("job_attempt", "")} & scans(plan)


def test_a_claim_beside_limits_looks_up_those_of_the_jobs_that_it_wants(ledger: SqlLedger) -> None:
    """Not those of all jobs whose turn it could be, and in an index, however many limits there are."""
    limits = {parse_scope(f"organization:{number}"): Bounds(1) for number in range(1000, 2000)}
    ledger.limits.declare(limits, "shop")
    execute(ledger, "UPDATE job_request SET organization_id = id % 3", "VACUUM ANALYZE job_request, job_limit")
    claim(ledger)  # it reads the limits
    ledger._claims._route = replace(ledger._claims._route, look_due=float("inf"))
    plan = plans(ledger, lambda: claim(ledger), ", ANALYZE")[-1]
    assert re.findall(r'"Index Name": "uq_job_limit_scope"[^{}]*"Actual Loops": (\d+)', json.dumps(plan)) == ["8"]
    assert ("job_limit", "") not in scans(plan)
    assert "'type:'" not in json.dumps(plan)  # no limit is of a type
