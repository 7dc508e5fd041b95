"""The reference's own code reads and writes `job_request` as before, beside the ledger that the table has become."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, func, inspect, select, text, update
from tests.contract.ledger import LEASE, SHORT, claim_next, claim_one, new_job, present
from tests.contract.reference_code import ReferenceCode, create_tables, speak
from tests.contract.worker import Site
from tests.ledger_databases import LedgerDatabases, empty_database
from tests.waiting import eventually

from spoke_jobs.contract.cause_classes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import MigrationRefused, Superseded
from spoke_jobs.execution.declared_options import with_declared_options
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.ledger.engine import check_schema
from spoke_jobs.ledger.engine import create_engine as create_ledger_engine
from spoke_jobs.ledger.migrations import downgrade, migrate, statements
from spoke_jobs.ledger.port import NoRow
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request, metadata
from spoke_jobs.model import Failure, JobOptions, JobState, Pulse
from spoke_jobs.registry import Registry

TYPES = ["export", "import_script"]
AT = {"campaign_id": 1, "organization_id": 1}
"""Of rows that exist: SQLite's foreign keys apply to our connections."""
OLDER = ["0001", "0004"]


@pytest.fixture(scope="module")
def adopted(postgres_url: str) -> Iterator[str]:
    """The URL of a PostgreSQL database in which the table has become the ledger, to be copied."""
    with empty_database(postgres_url) as url:
        engine = create_ledger_engine(url)
        create_tables(engine)
        migrate(engine)
        engine.dispose()
        yield url.render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database with the reference's tables."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            url: str | URL = f"sqlite:///{tmp_path}/app.sqlite3"
        elif "ledger" in request.fixturenames:  # it is migrated anyway, which takes longer than a copy
            databases: LedgerDatabases = request.getfixturevalue("_ledger_databases")
            url = stack.enter_context(databases.copied(request.getfixturevalue("adopted")))
        else:
            url = stack.enter_context(empty_database(request.getfixturevalue("postgres_url")))
        engine = create_ledger_engine(url)
        if not inspect(engine).has_table("job_request"):
            create_tables(engine)
        yield engine
        engine.dispose()


@pytest.fixture
def code(table: Engine) -> Iterator[ReferenceCode]:
    found = ReferenceCode(table)
    yield found
    found.close()


@pytest.fixture
def ledger(table: Engine) -> SqlLedger:
    """The ledger that the table became."""
    migrate(table)
    return SqlLedger(table)


def test_its_statements_before_and_after_the_migration(table: Engine, code: ReferenceCode) -> None:
    speak(code)
    migrate(table)
    speak(code)


@pytest.mark.parametrize("revision", OLDER)
def test_a_ledger_of_an_older_release_learns_them(table: Engine, code: ReferenceCode, revision: str) -> None:
    interrupted = code.dispatch(assigned=True)
    migrate(table, revision)
    migrate(table)
    row = present(code.row(interrupted))
    assert "spoke-jobs retry" in row["result_message"]
    assert code.discard(interrupted) == 1
    speak(code)


def test_its_jobs_are_complete_rows(code: ReferenceCode, ledger: SqlLedger) -> None:
    before = datetime.now(UTC)
    ids = [code.dispatch("export", '{"id": 1}', locks=True), code.dispatch()]
    jobs = [job for job_id in ids if (job := ledger.get(job_id)) is not None]
    assert [job.state for job in jobs] == [JobState.WAITING] * 2
    assert [job.uid.version for job in jobs] == [4, 4]
    assert jobs[0].uid != jobs[1].uid
    for job in jobs:
        assert (job.run, job.attempt, job.runner, job.priority, job.cause) == (1, 0, "legacy", 0, "")
        assert abs((job.created_at - before).total_seconds()) < 60
        assert abs((job.updated_at - before).total_seconds()) < 60
    assert [job.locks_queue for job in jobs] == [True, False]
    claims = ledger.claim_batch("legacy", TYPES, "w", LEASE, 9)
    assert [claim.job.id for claim in claims] == ids
    assert ledger.succeed_many({claim.token: {"rows": 3} for claim in claims}) == {claim.token for claim in claims}


def test_a_null_that_the_reference_allows_is_the_default(code: ReferenceCode, ledger: SqlLedger) -> None:
    columns = "locks_queue, assigned, status, result_message"
    statement = f"INSERT INTO job_request (payload, queue_name, job_type, {columns}) VALUES ('{{}}', 'q', 'export', "
    with ledger.engine.begin() as connection:
        connection.execute(text(statement + "NULL, NULL, NULL, NULL)"))
    (job,) = ledger.list_jobs()
    assert (job.locks_queue, job.assigned, job.status, job.result_message) == (False, False, 0, "")


def test_a_job_that_it_has_assigned_is_not_claimed(code: ReferenceCode, ledger: SqlLedger) -> None:
    inserted = code.dispatch(assigned=True)
    foreign, own = code.dispatch(), ledger.insert(new_job(job_type="export", **AT)).id
    assert code.assign(foreign)
    assert code.assign(own)
    assert claim_one(ledger, "legacy", TYPES, "w", LEASE) is None
    for job_id in (inserted, foreign, own):
        job = present(ledger.get(job_id))
        assert (job.runner, job.state) == ("reference", JobState.WAITING)
        assert isinstance(ledger.claim(job.id, job.uid, 1, 1, "pod", LEASE), NoRow)
    assert code.fail(foreign, "broken") == 1
    assert code.progress(own, 50) == 1
    assert ledger.reap("legacy") == []
    assert ledger.expire_starts("legacy", TYPES) == []
    assert ledger.prune() == 0


def test_a_final_state_that_it_has_written_stays(code: ReferenceCode, ledger: SqlLedger) -> None:
    ids = [code.dispatch() for _ in range(3)]
    released, succeeded, among_many = ledger.claim_batch("legacy", TYPES, "w", LEASE, 9)
    with ledger.engine.begin() as connection:
        by_hand = {"state": JobState.FAILED, "result_message": "stopped by hand", "finished_at": func.now()}
        connection.execute(update(job_request).values(by_hand))
    ledger.release(released.token)
    with pytest.raises(Superseded):
        ledger.succeed(None, succeeded.token, None)
    assert ledger.succeed_many({among_many.token: None}) == set()
    for job_id in ids:
        job = present(ledger.get(job_id))
        assert (job.state, job.result_message) == (JobState.FAILED, "stopped by hand")


def test_a_job_that_a_worker_has_is_not_assigned_again(code: ReferenceCode, ledger: SqlLedger) -> None:
    """Its loop reads the oldest unassigned row, and marks it in a second statement."""
    job_id, own = code.dispatch(), code.dispatch("other")
    claim = claim_next(ledger, types=TYPES)
    assert not code.assign(job_id)
    assert [code.assign(own), code.assign(own)] == [True, False], "nor by two loops of its own"
    assert code.progress(job_id, 30) == 1
    assert ledger.heartbeat(claim.token, LEASE) is Pulse.HELD
    ledger.succeed(None, claim.token, None)
    job = present(ledger.get(job_id))
    assert (job.runner, job.state) == ("legacy", JobState.SUCCEEDED)


def test_sync_changes_no_job_that_it_has_inserted_or_assigned(code: ReferenceCode, ledger: SqlLedger) -> None:
    """Sync may have read the row before it was assigned."""
    inserted, own = code.dispatch(), ledger.insert(new_job(job_type="export", runner="kubernetes", **AT))
    assert code.assign(own.id)
    foreign = present(ledger.get(inserted))
    with ledger.engine.begin() as connection:
        assert syncing.unlaunched(connection, 0.0, [], 9) == syncing.unfinished(connection).rows == []
        for job in (own, foreign):
            assert not syncing.may_launch(connection, job)
            assert not syncing.record_submitted(connection, job)
            assert not syncing.fail_job(connection, job, Failure("SpokeJobDeleted"))
    states = [(job.runner, job.state, job.status) for job in ledger.list_jobs()]
    assert sorted(states) == [("legacy", JobState.WAITING, 0), ("reference", JobState.WAITING, 0)]


def test_a_job_that_it_has_assigned_keeps_its_payload_when_it_is_dispatched_again(
    code: ReferenceCode, ledger: SqlLedger
) -> None:
    given = {"job_type": "export", "unique_key": "k", **AT}
    job = ledger.insert(new_job(payload="1", **given))
    assert code.assign(job.id)
    again = ledger.insert(new_job(payload="2", on_conflict="replace", **given))
    assert (again.id, again.runner, again.payload) == (job.id, "reference", "1")


def test_a_job_that_is_given_back_is_claimed(code: ReferenceCode, ledger: SqlLedger) -> None:
    by_hand, retried = code.dispatch(assigned=True), code.dispatch(assigned=True)
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE job_request SET assigned = false WHERE id = :id"), {"id": by_hand})
    ledger.cancel(retried)
    ledger.retry(retried)
    assert [claim.job.id for claim in ledger.claim_batch("legacy", TYPES, "w", LEASE, 9)] == [by_hand, retried]


def test_a_running_job_that_it_deletes_is_gone_with_its_lock(code: ReferenceCode, ledger: SqlLedger) -> None:
    first, second = code.dispatch(locks=True), code.dispatch(locks=True)
    claim = claim_next(ledger, types=TYPES, lease=SHORT)
    assert claim.job.id == first
    assert code.delete(first) == 1
    assert ledger.heartbeat(claim.token, LEASE) is Pulse.GONE
    assert ledger.succeed_many({claim.token: None}) == set()
    assert ledger.attempts(first) == []
    following = claim_next(ledger, types=TYPES)
    assert following.job.id == second


def test_a_finished_row_that_it_deletes_leaves_no_row_of_ours_behind(code: ReferenceCode, ledger: SqlLedger) -> None:
    job_id = code.dispatch()
    (claim,) = ledger.claim_batch("legacy", TYPES, "w", LEASE, 9)
    ledger.save(None, claim.token, {"rows": "7"})
    assert ledger.succeed_many({claim.token: {"rows": 7}}) == {claim.token}
    assert ledger.attempts(job_id)
    assert code.delete(job_id) == 1
    ours = [table for table in metadata.tables.values() if "job_id" in table.c]
    assert len(ours) >= 4
    with ledger.engine.connect() as connection:
        for table in ours:
            assert connection.scalar(select(func.count()).where(table.c.job_id == job_id)) == 0, table.name


def test_times_in_any_form_are_read(code: ReferenceCode, ledger: SqlLedger) -> None:
    if code.sqlite:
        given = ["1700000000123", "1700000000.5", "'2023-11-14T22:13:20.123Z'", "'2023-11-14 22:13:20'", "'?'", "x'00'"]
        given += ["9e99", "'2023-11-14 23:13:20+01:00'"]
    else:
        given = ["'infinity'", "'-infinity'", "'20000-01-01'", "'4000-01-01 BC'", "'2023-11-14 22:13:20+00'"]
    ids = []
    for value in given:
        ids.append(code.dispatch())
        assert code.put(ids[-1], "updated_at", value) == code.put(ids[-1], "created_at", value) == 1
    jobs = {job.id: job for job in ledger.list_jobs()}
    assert set(jobs) == set(ids)
    about = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    known = [jobs[n].updated_at for n in ids if jobs[n].updated_at.year != 1970]
    assert len(known) == (5 if code.sqlite else 1)
    assert all(abs((when - about).total_seconds()) < 1 for when in known)
    assert ledger.backlog("legacy")["due"] == len(ids)
    assert len(ledger.claim_batch("legacy", TYPES, "w", LEASE, 99)) == len(ids)


@pytest.mark.parametrize("table", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("zone", "value"), [("America/New_York", "9999-12-31 23:59:59"), ("Asia/Tokyo", "0001-01-01 00:00:00")]
)
def test_a_time_that_is_outside_the_calendar_in_utc_stops_no_other_row(
    table: Engine, code: ReferenceCode, ledger: SqlLedger, zone: str, value: str
) -> None:
    code.execute(f"ALTER DATABASE \"{table.url.database}\" SET timezone = '{zone}'")
    table.dispose()  # new connections have the zone
    code.execute(f"SET timezone = '{zone}'")
    broken, good = code.dispatch(), code.dispatch()
    for column in ("created_at", "updated_at"):
        assert code.put(broken, column, f"'{value}'") == 1
    assert {job.id: job.created_at.year for job in ledger.list_jobs()}[broken] in (2, 9998)
    claims = ledger.claim_batch("legacy", TYPES, "w", SHORT, 9)
    assert good in {claim.job.id for claim in claims}
    eventually(lambda: good in {job.id for job in ledger.reap("legacy")})


@pytest.mark.parametrize("adopted", [False, True], ids=["inserted after the migration", "there before"])
def test_its_jobs_take_the_options_that_their_types_declare(table: Engine, code: ReferenceCode, adopted: bool) -> None:
    foreign = code.dispatch() if adopted else 0
    migrate(table)
    ledger = SqlLedger(table)
    foreign = foreign or code.dispatch()
    registry = Registry()
    once = RetryPolicy(budget=dict.fromkeys((CauseClass.ERROR, CauseClass.INFRASTRUCTURE), 1), backoff_seconds=0)
    registry.job("export", retry=once, timeout_seconds=1, retention_seconds=60, on_failure="report")(lambda ctx: None)
    registry.job("report", priority=3)(lambda ctx, failed: None)
    own, unknown = ledger.insert(new_job(job_type="export", **AT)).id, code.dispatch("other")
    claims = ledger.claim_batch("legacy", ["export", "other"], "w", LEASE, 9)
    declared = {claim.job.id: claim for claim in with_declared_options(claims, registry, ledger)}
    options = declared[foreign].job.options
    assert (options.timeout_seconds, options.retry.allowance(CauseClass.ERROR), options.on_failure) == (1, 1, "report")
    assert declared[own].job.options == new_job().options, "options that a dispatch has set do not change"
    assert declared[unknown].job.options == JobOptions()
    row = present(ledger.get(foreign))
    assert row.options == options
    ledger.fail(declared[foreign].token, Failure("JobError", "broken"), decide=True)
    row = present(ledger.get(foreign))
    assert row.state is JobState.FAILED, "its type allows one attempt"
    assert row.expires_at is not None
    assert row.finished_at is not None
    assert (row.expires_at - row.finished_at).total_seconds() == pytest.approx(60, abs=1)
    following = ledger.list_jobs(1)[0]
    assert (following.job_type, following.priority) == ("report", 3)


_DEEP = "[" * 3000 + "]" * 3000
UNREADABLE = [
    ("options", "nothing"),
    ("options", "[1]"),
    ("options", "null"),
    ("options", '{"retentionSeconds": "x"}'),
    ("options", '{"retentionSeconds": 1e999}'),
    ("options", '{"budget": 1, "never": {}}'),
    ("options", _DEEP),
    ("result", "NaN"),
    ("result", _DEEP),
]


def test_unreadable_rows_stop_no_other(code: ReferenceCode, ledger: SqlLedger) -> None:
    ids = []
    for column, value in UNREADABLE:
        if not code.sqlite and value in ("nothing", "NaN"):
            value = "7"  # PostgreSQL stores nothing that isn't JSON
        ids.append(code.dispatch())
        assert code.put(ids[-1], column, f"'{value}'") == 1
    ids.append(code.dispatch())
    assert {job.id for job in ledger.list_jobs()} == set(ids)
    claims = ledger.claim_batch("legacy", TYPES, "w", LEASE, 99)
    assert [claim.job.id for claim in claims] == ids
    assert ledger.succeed_many({claim.token: None for claim in claims}) == {claim.token for claim in claims}


SQLITE_VALUES = {
    "organization_id": "'three'",
    "campaign_id": "x'00'",
    "payload": "x'7b7d'",
    "queue_name": "7",
    "result_message": "CAST(x'ff' AS TEXT)",
    "uid": "'not a uuid'",
    "run_after": "1700000000123",
    "rank": "'high'",
    "status": "'half'",
}


@pytest.mark.parametrize("table", ["sqlite"], indirect=True)
def test_sqlite_stores_any_type_and_it_is_read(code: ReferenceCode, ledger: SqlLedger) -> None:
    ids = {code.dispatch()}
    for column, value in SQLITE_VALUES.items():
        broken = code.dispatch()
        ids.add(broken)
        assert code.put(broken, column, value) == 1
    assert {job.id for job in ledger.list_jobs()} == ids
    claims = ledger.claim_batch("legacy", TYPES, "w", LEASE, 99)
    assert {claim.job.id for claim in claims} == ids


def test_downgraded_the_table_is_the_reference_s_again(table: Engine, code: ReferenceCode) -> None:
    before, keys = columns_of(table), foreign_keys_of(table)
    waiting, broken = code.dispatch(), code.dispatch(assigned=True)
    migrate(table)
    ledger = SqlLedger(table)
    done = ledger.insert(new_job(job_type="import_script", **AT)).id
    claim = claim_next(ledger, types=["import_script"])
    with pytest.raises(MigrationRefused, match="1 job runs: stop the workers"):
        downgrade(table)
    ledger.succeed(None, claim.token, None)
    downgrade(table)
    assert columns_of(table) == before
    assert foreign_keys_of(table) == keys
    assert set(inspect(table).get_table_names()) == {"job_request", "campaign", "organization"}
    assert code.row(done) is None, "the reference would show it as pending"
    rows = {row["id"]: (bool(row["assigned"]), row["status"]) for row in code.pending()}
    assert rows == {waiting: (False, 0), broken: (True, -1)}
    for job_id in (waiting, broken):
        assert code.discard(job_id) == 1
    speak(code)
    with pytest.raises(MigrationRefused, match="there is no ledger"):
        downgrade(table)
    migrate(table)
    speak(code)


@pytest.mark.parametrize("revision", [None, "0004"])
def test_the_printed_sql_is_what_a_migration_runs(table: Engine, code: ReferenceCode, revision: str | None) -> None:
    if revision is not None:
        migrate(table, revision)
    for down in (False, True):
        before = inspect(table).get_table_names()
        printed = statements(table, down=down)
        assert inspect(table).get_table_names() == before, "it changes nothing"
        for statement in printed:
            code.execute(statement)
        if down:
            assert "spoke_jobs_version" not in inspect(table).get_table_names()
        else:
            check_schema(table)
            assert statements(table) == []
        speak(code)


def test_the_reference_s_own_migrations_come_first(table: Engine, code: ReferenceCode) -> None:
    for index in ("job_request_organization_id_index", "job_request_queue_name_index"):
        code.execute(f"DROP INDEX {index}")
    code.execute("ALTER TABLE job_request RENAME COLUMN organization_id TO not_yet")
    with pytest.raises(MigrationRefused) as refusal:
        migrate(table)
    assert "lacks the columns organization_id" in str(refusal.value)
    assert "run those first" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "job_attempt" not in inspect(table).get_table_names()


def columns_of(engine: Engine) -> dict[str, tuple[str, bool]]:
    found = inspect(engine).get_columns("job_request")
    return {column["name"]: (str(column["type"]), column["nullable"]) for column in found}


def foreign_keys_of(engine: Engine) -> set[tuple[str, str]]:
    found = inspect(engine).get_foreign_keys("job_request")
    return {(key["constrained_columns"][0], key["referred_table"]) for key in found}


def test_a_worker_runs_its_jobs_while_it_writes(table: Engine, code: ReferenceCode, tmp_path: Path) -> None:
    waited = code.dispatch("succeed", '{"waited": true}')
    script = json.dumps({"file": str(tmp_path / "imported"), "words": "Grüße"}).encode()
    imported = code.dispatch("import_script", base64.b64encode(gzip.compress(script)).decode(), queue="1:import_script")
    migrate(table)
    site = Site(table.url.render_as_string(hide_password=False), tmp_path)
    site._environment |= {"SPOKE_FINISHED": "delete", "SPOKE_APP": "tests.contract.rough_app:registry"}
    with site.worker("--processes", "2"):
        locking = [code.dispatch("succeed", str(n), queue="1:edit", locks=True) for n in range(5)]
        once, endless, own = code.dispatch("fails_once_for_all"), code.dispatch("until_cancelled"), code.dispatch()
        assert code.assign(own)
        site.pid_of(endless)
        assert not code.assign(endless)
        assert code.progress(endless, 40) == 1
        site.wait(lambda: {row["id"] for row in code.pending()} == {once, endless, own})
        assert code.row(waited) is None
        assert code.row(imported) is None
        assert (tmp_path / "imported").read_text() == "Grüße"
        assert not [job_id for job_id in locking if code.row(job_id)]
        assert code.progress(own, 99) == code.increment(own) == 1
        assert (code.row(own) or {}).get("status") == 100
        assert code.fail(own, "its own trouble") == 1
        assert code.clear_old(3600) == 0, "all have been updated within the hour"
        row = code.row(own) or {}
        assert (row.get("status"), row.get("result_message")) == (-1, "its own trouble")
        assert code.delete_others(endless, "export") == 1
        assert code.row(own) is None
        assert code.discard(endless) == 1
        after = code.dispatch("succeed", "1")
        site.wait(lambda: code.row(after) is None)
        site.wait(lambda: (code.row(once) or {}).get("status") == -1)
    assert site.row(once).cause == "JobError"
    # On a starved machine a lease may lapse first, which its type allows.
    assert site.causes(once).count("JobError") == 1, "its type allows one error"
    site.close()
