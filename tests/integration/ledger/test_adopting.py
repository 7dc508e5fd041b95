"""The reference's own table becomes the ledger's in place, with its rows; a ledger of the first schema is migrated."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect, text
from tests.contract.ledger import LEASE, claim_next, new_job, present
from tests.ledger_databases import empty_database
from tests.unit.ledger.test_migrations import differences, proposals

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.engine import check_schema
from spoke_jobs.ledger.engine import create_engine as create_ledger_engine
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobState

COLUMNS = "campaign_id, organization_id, payload, queue_name, job_type, locks_queue, assigned, status"
POSTGRESQL = """
CREATE TABLE campaign (id serial PRIMARY KEY);
CREATE TABLE job_request (
    id serial PRIMARY KEY,
    campaign_id integer REFERENCES campaign (id) ON DELETE CASCADE,
    organization_id integer,
    payload text NOT NULL,
    queue_name text,
    job_type varchar(255),
    result_message text DEFAULT '',
    locks_queue boolean DEFAULT false,
    assigned boolean DEFAULT false,
    status integer DEFAULT 0,
    updated_at timestamp with time zone DEFAULT CURRENT_TIMESTAMP,
    created_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX job_request_queue_name_index ON job_request (queue_name);
CREATE INDEX job_request_campaign_id_index ON job_request (campaign_id);
CREATE TABLE job_note (
    id serial PRIMARY KEY, job_id integer NOT NULL REFERENCES job_request (id) ON DELETE CASCADE, words text
);
"""
SQLITE = """
CREATE TABLE campaign (id integer PRIMARY KEY);
CREATE TABLE job_request (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    campaign_id integer,
    organization_id integer,
    payload text NOT NULL,
    queue_name text,
    job_type varchar(255),
    result_message text DEFAULT '',
    locks_queue boolean DEFAULT '0',
    assigned boolean DEFAULT '0',
    status integer DEFAULT '0',
    updated_at datetime DEFAULT CURRENT_TIMESTAMP,
    created_at datetime DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (campaign_id) REFERENCES campaign (id) ON DELETE CASCADE
);
CREATE INDEX job_request_queue_name_index ON job_request (queue_name);
CREATE INDEX job_request_campaign_id_index ON job_request (campaign_id);
CREATE TABLE job_note (
    id integer PRIMARY KEY, job_id integer NOT NULL REFERENCES job_request (id) ON DELETE CASCADE, words text
);
"""
BEGAN = datetime(2020, 5, 1, 12, 0, tzinfo=UTC)
"""The time of the reference's rows."""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database without a table."""
    if request.param == "sqlite":
        engine = create_ledger_engine(f"sqlite:///{request.getfixturevalue('tmp_path')}/app.sqlite3")
        yield engine
        engine.dispose()
        return
    with empty_database(request.getfixturevalue("postgres_url")) as url:
        engine = create_ledger_engine(url)
        # A server far from UTC: times without a zone are still UTC.
        run(engine, f"ALTER DATABASE \"{url.database}\" SET timezone TO 'America/New_York'")
        engine.dispose()
        yield engine
        engine.dispose()


def run(engine: Engine, script: str, values: dict[str, Any] | None = None) -> None:
    with engine.begin() as connection:
        for statement in script.split(";\n"):
            if statement.strip():
                connection.execute(text(statement), values or {})


def reference(engine: Engine) -> None:
    """The reference's tables, with a row of every kind."""
    postgresql = engine.dialect.name == "postgresql"
    run(engine, POSTGRESQL if postgresql else SQLITE)
    rows = [
        "1, 3, '{\"a\": 1}', '12:edit', 'export', true, false, 0",
        "1, 3, '{}', '12:edit', 'import_script', true, true, 40",
        "NULL, NULL, '{}', NULL, 'assign_texters', NULL, true, -1",
        "NULL, NULL, '{}', NULL, 'ingest.csv', NULL, NULL, NULL",
        "1, 3, '{}', '', 'extension_job', true, false, 0",
        "1, 3, '{}', 'q', NULL, false, true, NULL",
    ]
    stamp = "TIMESTAMP '2020-05-01 12:00:00'" if postgresql else "'2020-05-01 12:00:00'"
    aware = (
        "TIMESTAMPTZ '2020-05-01 14:00:00+02'" if postgresql else "1588334400000"
    )  # as the reference's driver stores it
    values = ", ".join(f"({row}, {aware}, {stamp})" for row in rows)
    run(
        engine,
        "INSERT INTO campaign VALUES (1);\n"
        f"INSERT INTO job_request ({COLUMNS}, updated_at, created_at) VALUES {values}",
    )
    run(engine, "INSERT INTO job_note VALUES (1, 2, 'mine')")
    run(engine, "UPDATE job_request SET updated_at = NULL, created_at = NULL, result_message = NULL WHERE id = 5")


def test_the_reference_s_rows_are_taken_over_and_run_and_new_ones_beside_them(empty: Engine) -> None:
    reference(empty)
    migrate(empty)
    check_schema(empty)
    ledger = SqlLedger(empty)
    jobs = {job.id: job for job in ledger.list_jobs()}
    assert [(jobs[n].state, jobs[n].cause, jobs[n].status, jobs[n].assigned) for n in sorted(jobs)] == [
        (JobState.WAITING, "", 0, False),
        (JobState.FAILED, "interrupted_by_migration", -1, True),
        (JobState.FAILED, "JobError", -1, True),
        (JobState.WAITING, "", 0, False),
        (JobState.WAITING, "", 0, False),
        (JobState.FAILED, "interrupted_by_migration", -1, True),
    ]
    assert len({job.uid for job in jobs.values()}) == 6
    assert {job.uid.version for job in jobs.values()} == {4}
    assert (jobs[1].payload, jobs[1].queue_name, jobs[1].locks_queue, jobs[1].campaign_id) == (
        '{"a": 1}',
        "12:edit",
        True,
        1,
    )
    assert (jobs[4].queue_name, jobs[4].locks_queue, jobs[4].organization_id) == ("", False, None)
    assert not jobs[5].locks_queue  # it has no queue to lock
    for number in (1, 2, 3, 4, 6):
        assert (jobs[number].created_at, jobs[number].updated_at) == (BEGAN, BEGAN)
    assert jobs[3].finished_at == BEGAN
    now = datetime.now(UTC)
    assert abs((jobs[5].created_at - now).total_seconds()) < 60
    for number, job in jobs.items():
        assert (job.finished_at is not None) == (job.expires_at is not None) == job.state.final, number
    # What isn't read any more stays for a week, to be seen.
    assert all((job.expires_at - now).total_seconds() > 6 * 86_400 for job in jobs.values() if job.expires_at)
    claims = ledger.claim_batch("legacy", ["export", "ingest.*", "extension_job"], "w", LEASE, 9)
    assert [claim.job.id for claim in claims] == [1, 4, 5]
    for claim in claims:
        ledger.succeed(None, claim.token, None)
    again = present(ledger.retry(2))
    assert (again.state, again.run) == (JobState.WAITING, 2)
    claim = claim_next(ledger, types=["import_script"])
    assert ledger.insert(new_job(campaign_id=1)).id > 6


def test_the_application_s_indexes_and_foreign_keys_stay_and_the_rest_is_as_the_code_says(empty: Engine) -> None:
    reference(empty)
    migrate(empty)
    ours = [item for item in differences(empty) if not of_the_application(item)]
    assert ours == []
    left = [item for item in proposals(empty) if not of_the_application(item)]
    assert left == []
    if empty.dialect.name == "postgresql":
        with empty.connect() as connection:
            kind = connection.scalar(
                text("SELECT seqtypid::regtype::text FROM pg_sequence WHERE seqrelid = 'job_request_id_seq'::regclass")
            )
            assert kind == "bigint"  # an integer ends at two billion jobs
    with empty.begin() as connection:
        assert connection.scalar(text("SELECT words FROM job_note WHERE job_id = 2")) == "mine"
        if connection.dialect.name == "sqlite":
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
            assert connection.scalar(text("PRAGMA foreign_keys")) == 1
    inspector = inspect(empty)
    (own,) = [key for key in inspector.get_foreign_keys("job_request") if key["constrained_columns"] == ["campaign_id"]]
    assert (own["referred_table"], own["options"]) == ("campaign", {"ondelete": "CASCADE"})
    (note,) = inspector.get_foreign_keys("job_note")
    assert note["referred_table"] == "job_request"
    names = {index["name"] for index in inspector.get_indexes("job_request")}
    assert "job_request_campaign_id_index" in names
    assert "job_request_queue_name_index" not in names  # ours is the same
    with pytest.raises(Exception, match=r"(?i)foreign key"), empty.begin() as connection:
        connection.execute(text("INSERT INTO job_note VALUES (9, 999, 'of no job')"))
    with empty.begin() as connection:  # its foreign keys still act
        connection.execute(text("DELETE FROM campaign"))
    with empty.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM job_note")) == 0


def of_the_application(difference: Any) -> bool:
    """Whether it concerns the application's indexes and foreign keys, or its own tables."""
    kind, item = (difference[0], difference[1]) if isinstance(difference, tuple) else ("", None)
    if kind == "remove_fk":
        return bool(item.column_keys == ["campaign_id"])
    if kind == "remove_index":
        return bool(item.name == "job_request_campaign_id_index")
    return bool(kind == "remove_table" and item.name in {"campaign", "job_note"})


def test_many_rows_are_few_statements(empty: Engine) -> None:
    run(empty, POSTGRESQL if empty.dialect.name == "postgresql" else SQLITE)
    with empty.begin() as connection:
        statement = text(
            "INSERT INTO job_request (payload, queue_name, job_type, assigned, status) "
            "VALUES ('{}', 'q', 'export', :given, 0)"
        )
        connection.execute(statement, [{"given": number % 3 == 0} for number in range(2_000)])
    statements: list[str] = []
    event.listen(empty, "before_cursor_execute", lambda *given: statements.append(given[2]))
    migrate(empty)
    assert len(statements) < 500  # most of them are the migrations' own
    with empty.connect() as connection:
        assert connection.scalar(text("SELECT count(DISTINCT uid) FROM job_request")) == 2_000
        assert connection.scalar(text("SELECT count(*) FROM job_request WHERE state = 'waiting'")) == 1333


REFUSED = {
    "CREATE TABLE job_request (id integer PRIMARY KEY, title text, salary integer)": "payload",
    "CREATE TABLE job_attempt (id integer PRIMARY KEY)": "job_attempt",
    "CREATE TABLE queue_lock (id integer PRIMARY KEY)": "queue_lock",
    "CREATE VIEW job_request AS SELECT 1 AS id": "view",
    "CREATE TABLE job_request (state text, uid text, id integer PRIMARY KEY, {columns})": "state, uid",
    "CREATE TABLE job_request (id text PRIMARY KEY, {columns})": "no integer",
}
"""Tables and views of others, and what the refusal names."""


def test_a_table_that_is_something_else_is_refused_by_name(empty: Engine) -> None:
    names = [*COLUMNS.split(", "), "result_message", "updated_at", "created_at"]
    for statement, named in REFUSED.items():
        run(empty, statement.format(columns=", ".join(f"{name} text" for name in names)))
        before = set(inspect(empty).get_table_names())
        with pytest.raises(MigrationRefused, match=rf"there is a table .*{named}.*rename it"):
            migrate(empty)
        assert set(inspect(empty).get_table_names()) - before <= {"spoke_jobs_version"}
        run(empty, f"DROP {' '.join(statement.split()[1:3])}")
    with empty.connect() as connection:
        if connection.dialect.name == "sqlite":
            assert connection.scalar(text("PRAGMA foreign_keys")) == 1


def test_rows_of_the_first_schema_survive_the_second(empty: Engine) -> None:
    migrate(empty, "0001")
    made = (
        "INSERT INTO job_request (payload, queue_name, job_type, updated_at, created_at, uid, state, runner, options, "
        "finished_at, status, attempt) VALUES "
        "('{}', '', 'report', :now, :now, :uid, :state, 'legacy', :options, :ended, 0, :attempt)"
    )
    old = json.dumps({"budget": {"error": 2}, "backoffSeconds": 0, "podTemplate": "big", "onceMeant": [1]})
    sqlite = empty.dialect.name == "sqlite"
    at: Any = "2026-01-02 03:04:05.000000" if sqlite else datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for state in ("waiting", "running", "succeeded", "failed"):
        ended = at if state in ("succeeded", "failed") else None
        run(
            empty,
            made,
            {
                "now": at,
                "uid": uuid.uuid4().hex,
                "state": state,
                "options": old,
                "ended": ended,
                "attempt": int(state != "waiting"),
            },
        )
    lapsed = (
        "INSERT INTO job_attempt "
        "(job_id, run, number, token, state, worker, claimed_at, heartbeat_at, lease_expires_at) "
        "VALUES (2, 1, 1, :token, 'running', 'w', :now, :now, :now)"
    )
    run(empty, lapsed, {"token": uuid.uuid4().hex, "now": at})
    migrate(empty)
    check_schema(empty)
    assert differences(empty) == []
    ledger = SqlLedger(empty)
    jobs = list(reversed(ledger.list_jobs()))
    assert [(job.priority, job.unique_key, job.start_by, job.cancel_requested_at) for job in jobs] == [
        (0, None, None, None)
    ] * 4
    assert [job.expires_at is not None for job in jobs] == [False, False, True, True]
    assert jobs[0].options.pod_template == "big"
    assert [job.id for job in ledger.reap("legacy")] == [2]
    claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)
    assert [claim.job.id for claim in claims] == [1, 2]
    assert ledger.succeed_many({claim.token: None for claim in claims}) == {claim.token for claim in claims}
    assert ledger.prune() == 0
    assert ledger.retry(4) is not None
