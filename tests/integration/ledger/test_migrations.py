"""The migrations create exactly the tables of the code, on PostgreSQL."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import URL, text
from sqlalchemy import create_engine as plain_engine
from sqlalchemy.exc import OperationalError
from tests.ledger_databases import empty_database
from tests.unit.ledger.test_migrations import differences, proposals
from tests.waiting import eventually, patient

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.ledger.migrations import downgrade, migrate
from spoke_jobs.ledger.tables import VERSION_TABLE, sql_name


def test_no_difference(postgres_ledger_url: str) -> None:
    engine = create_engine(postgres_ledger_url)
    assert differences(engine) == []
    assert proposals(engine) == []
    engine.dispose()


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[URL]:
    """A database without tables."""
    with empty_database(postgres_url) as url:
        yield url


def test_processes_that_start_together_migrate_one_after_the_other(empty_url: URL) -> None:
    """Also where they create a schema."""
    environment = os.environ | {"SPOKE_DATABASE_URL": empty_url.render_as_string(hide_password=False)}
    command = [sys.executable, "-m", "spoke_jobs", "migrate"]
    together = [
        subprocess.Popen(command, env=environment | {"SPOKE_SCHEMA": schema}) for schema in ("", "billing", "billing")
    ]
    assert [process.wait(patient(60)) for process in together] == [0] * 3
    engine = create_engine(empty_url)
    check_schema(engine)
    engine.dispose()


def test_whoever_holds_the_lock_of_migrations_is_waited_for_with_a_word_in_the_log(
    empty_url: URL, caplog: pytest.LogCaptureFixture
) -> None:
    """Any role that may connect can take that lock."""
    engine = create_engine(empty_url)
    migrating = threading.Thread(target=migrate, args=(engine,), kwargs={"lock_timeout_seconds": 0.1})
    with engine.connect() as others:
        others.execute(text("SELECT pg_advisory_lock(hashtext(:name))"), {"name": sql_name(VERSION_TABLE)})
        migrating.start()
        eventually(lambda: "another migration runs" in caplog.text, "it says so")
    migrating.join(patient(60))
    check_schema(engine)
    engine.dispose()


def test_a_long_transaction_delays_the_migration_and_nobody_else(empty_url: URL) -> None:
    """A migration that waited for its lock would make each later heartbeat and claim wait behind it."""
    engine = create_engine(empty_url)
    migrate(engine, "0003")
    migrating = threading.Thread(target=migrate, args=(engine,))
    with engine.connect() as others, others.begin():
        others.execute(text("LOCK TABLE job_request IN ROW EXCLUSIVE MODE"))  # as every writer does
        migrating.start()
        for _ in range(10):
            with engine.connect() as heartbeat, heartbeat.begin():
                heartbeat.execute(text("SET LOCAL lock_timeout = '5s'"))
                heartbeat.execute(text("LOCK TABLE job_request IN ROW EXCLUSIVE MODE"))
            migrating.join(0.05)
        assert migrating.is_alive()
    migrating.join(patient(60))
    assert not migrating.is_alive()
    check_schema(engine)
    engine.dispose()


def test_an_index_of_a_large_table_may_be_created_before_the_migration(empty_url: URL) -> None:
    """As docs/upgrading.md says. One that was interrupted is refused by name."""
    page = (Path(__file__).parents[3] / "docs/upgrading.md").read_text()
    failed, *others = re.findall(r"CREATE INDEX CONCURRENTLY [^;]+", page)
    names = [re.findall(r"ix_\w+", statement)[0] for statement in others]
    assert len(names) == 7
    built = text("SELECT " + ", ".join(f"'{name}'::regclass::oid" for name in names))
    engine = create_engine(empty_url)
    migrate(engine, "0010")
    outside = engine.execution_options(isolation_level="AUTOCOMMIT")
    with outside.connect() as connection, engine.connect() as other, other.begin():
        connection.exec_driver_sql("SET lock_timeout = '100ms'")
        for statement in others:
            connection.exec_driver_sql(statement)
        before = connection.execute(built).one()
        other.exec_driver_sql("LOCK TABLE job_request IN ROW EXCLUSIVE MODE")
        with pytest.raises(OperationalError, match="lock timeout"):
            connection.exec_driver_sql(failed)
    with pytest.raises(MigrationRefused, match="the index ix_job_request_failed is not valid"):
        migrate(engine)
    with outside.connect() as connection:
        connection.exec_driver_sql("DROP INDEX ix_job_request_failed")
        connection.exec_driver_sql(failed)
        migrate(engine)
        assert connection.execute(built).one() == before
    assert differences(engine) == []
    assert proposals(engine) == []
    engine.dispose()


OLD_ROWS = 100_000
OLD_REVISION = "0003"
FILL = """
INSERT INTO job_request (payload, queue_name, job_type, status, updated_at, created_at, uid, state, runner, options,
    attempt, started_at, finished_at, cause, expires_at, assigned)
SELECT '{}', 'q' || n %% 50, 'report', CASE WHEN waits THEN 0 WHEN n %% 7 = 0 THEN -1 ELSE 100 END, now(), now(),
    gen_random_uuid(), CASE WHEN waits THEN 'waiting' WHEN n %% 7 = 0 THEN 'failed' ELSE 'succeeded' END, 'legacy',
    '{}', CASE WHEN waits THEN 0 ELSE 1 END, CASE WHEN waits THEN NULL ELSE now() END,
    CASE WHEN waits THEN NULL ELSE now() END, CASE WHEN NOT waits AND n %% 7 = 0 THEN 'JobError' ELSE '' END,
    CASE WHEN waits THEN NULL ELSE now() + interval '7 days' END, NOT waits
FROM (SELECT n, n %% 5 = 0 AS waits FROM generate_series(1, ROWS) n) rows
"""
FILL_ATTEMPTS = """
INSERT INTO job_attempt
    (job_id, run, number, token, state, worker, claimed_at, heartbeat_at, lease_expires_at, finished_at, cause)
SELECT id, 1, 1, gen_random_uuid(), state, 'w', now(), now(), now(), now(), cause FROM job_request WHERE attempt = 1
"""
OLD_INSERT = """
INSERT INTO job_request (payload, queue_name, job_type, updated_at, created_at, uid, state, runner, options)
VALUES ('{}', 'new', 'report', now(), now(), gen_random_uuid(), 'waiting', 'legacy', '{}')
"""
OLD_READ = "SELECT id, status, result_message FROM job_request WHERE queue_name = 'q7' ORDER BY id DESC LIMIT 20"
LONGEST_BLOCK_SECONDS = 2.0


@pytest.mark.long
def test_a_hundred_thousand_rows_are_migrated_while_others_read_and_write(empty_url: URL) -> None:
    """From the first release's tables, with the statements of its processes, and back to the reference's table."""
    engine = plain_engine(empty_url, isolation_level="AUTOCOMMIT")
    migrate(engine, OLD_REVISION)
    with engine.connect() as connection:
        for statement in (FILL.replace("ROWS", str(OLD_ROWS)), FILL_ATTEMPTS, "ANALYZE"):
            connection.exec_driver_sql(statement)
    began, done = threading.Event(), threading.Event()
    took: dict[str, list[float]] = {OLD_READ: [], OLD_INSERT: []}

    def repeat(statement: str) -> None:
        with engine.connect() as connection:
            while not done.wait(0.02):
                start = time.monotonic()
                connection.exec_driver_sql(statement)
                took[statement].append(time.monotonic() - start)
                if all(took.values()):
                    began.set()

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(repeat, statement) for statement in took]
        try:
            assert began.wait(patient(60))
            start = time.monotonic()
            migrate(engine)
            print(f"FIGURE {OLD_ROWS} rows in {time.monotonic() - start:.1f} s; blocked for at most "
                  f"{max(took[OLD_READ]):.2f} s (reads), {max(took[OLD_INSERT]):.2f} s (writes)")  # fmt: skip
        finally:
            done.set()
        assert [one.result() for one in running] == [None, None], "no statement failed"
    assert max(map(max, took.values())) < LONGEST_BLOCK_SECONDS
    check_schema(engine)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT state, count(*) FROM job_request GROUP BY 1"))
        counts: dict[str, int] = {row[0]: row[1] for row in rows}
        assert counts["failed"] + counts["succeeded"] == OLD_ROWS * 4 // 5
        assert counts["waiting"] == OLD_ROWS // 5 + len(took[OLD_INSERT])
        assert connection.scalar(text("SELECT count(*) FROM job_attempt")) == OLD_ROWS * 4 // 5
        downgrade(engine)
        left = connection.scalar(text("SELECT count(*) FROM job_request"))
        assert left == counts["waiting"] + counts["failed"], "the reference would show a success as pending"
    engine.dispose()
