"""Each kind of process works under its own role of PostgreSQL, and may do nothing else to the ledger's tables.

The application's role also runs the ledger's and the outbox's contracts (test_sql_ledger.py, test_outbox.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy import create_engine as plain_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from tests.commands import run_command
from tests.conftest import as_role
from tests.contract.ledger import LEASE, new_job, present
from tests.contract.ledger_pods import PodCheckpointContract, PodContract
from tests.contract.refused_statements import NO_JOB, NOBODY
from tests.pod_process import run_pod
from typer.testing import Result

from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.ledger import migrations
from spoke_jobs.ledger.access.privileges import Comparison, Process
from spoke_jobs.ledger.cluster import reports, syncing
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.ledger.limits_and_pauses import limit_rows
from spoke_jobs.ledger.outbox.task_outbox import Outbox
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.reading.statistics import GroupedBy
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import ANY_JOB, AttemptReport, Failure, JobFilter, JobOptions, JobState
from spoke_jobs.shared import log_setup
from spoke_jobs.sync.writer import Writer

Urls = dict[Process, str]
_INSUFFICIENT_PRIVILEGE = "42501"


def opened(url: str) -> SqlLedger:
    """A ledger; dispose of its engine."""
    return SqlLedger(create_engine(url))


class TestPodsUnderTheirRole(PodContract, PodCheckpointContract):
    """The contract of pods. What it needs of other processes is done under the application's role."""

    @pytest.fixture
    def ledger(self, role_urls: Urls) -> Iterator[SqlLedger]:
        others = opened(role_urls[Process.APPLICATION])

        class Pods(SqlLedger):
            cancel = staticmethod(others.cancel)
            retry = staticmethod(others.retry)
            claim_batch = staticmethod(others.claim_batch)

        engine = create_engine(role_urls[Process.JOBS])
        yield Pods(engine)
        engine.dispose()
        others.engine.dispose()


APP = '''
"""A job that uses what a job may use."""
from spoke_jobs import JobData, dispatch_job, dispatch_task, job, task

@task("note")
def note(ctx, payload: dict): pass

@job("child")
def child(ctx): pass

@job("everything", locks_queue=True)
def everything(ctx):
    ctx.progress(50, "half-way")
    dispatch_job(JobData("child"))
    dispatch_job(JobData("child", unique_key="one"), session=ctx.session)
    dispatch_job(JobData("child", unique_key="one"), session=ctx.session)
    dispatch_task("note", {"n": 1}, session=ctx.session)
    ctx.session.commit()
    return "done"
'''


def test_a_pod_runs_a_job_that_dispatches(role_urls: Urls, tmp_path: Path) -> None:
    ledger = opened(role_urls[Process.APPLICATION])
    # As other code writes it: without options, which the pod then records.
    with ledger.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO job_request (payload, queue_name, job_type, locks_queue, runner) "
                "VALUES ('{}', 'q', 'everything', true, 'kubernetes')"
            )
        )
    (job,) = ledger.list_jobs()
    (tmp_path / "pods_app.py").write_text(APP)
    environment = PodAssignment(job.id, job.uid, 1).to_environment() | {
        "JOB_RUNNER": "kubernetes",
        "SPOKE_SUBMIT": "sync",
        "SPOKE_APP": "pods_app",
        "SPOKE_NAMESPACE": "shop",
        "SPOKE_TASKS_URL": "http://127.0.0.1:1",
        "SPOKE_TASKS_KEY": "0123456789abcdef0123456789abcdef",
        "SPOKE_DATABASE_URL": role_urls[Process.JOBS],
        "PYTHONPATH": str(tmp_path),
    }
    done = run_pod(environment)
    ended = present(ledger.get(job.id))
    assert (ended.state, ended.result, ended.result_message) == (JobState.SUCCEEDED, "done", "half-way"), (
        ended,
        done.stderr,
    )
    assert sorted(found.unique_key or "" for found in ledger.list_jobs() if found.job_type == "child") == ["", "one"]
    (task,) = Outbox(ledger.engine, "kubernetes").claim(["note"], "w", LEASE, 9)
    assert task.payload == '{"n":1}'
    ledger.engine.dispose()


@pytest.fixture(scope="module")
def urls(shared_postgres_ledger_url: str, ledger_roles: dict[Process, str]) -> Urls:
    """The same for the tests that leave nothing behind."""
    return {process: as_role(shared_postgres_ledger_url, name) for process, name in ledger_roles.items()}


def test_sync_writes_and_prunes(role_urls: Urls) -> None:
    writer = Writer(role_urls[Process.APPLICATION])
    assert writer.lead()
    ledger = SqlLedger(writer.engine)
    job = ledger.insert(new_job(runner="kubernetes", options=JobOptions(on_failure="tell")))
    with writer.transaction() as connection:
        assert [row.id for row, _ in syncing.unlaunched(connection, 0.0, [], 9)] == [job.id]
        assert syncing.may_launch(connection, job)
        assert syncing.record_submitted(connection, job)
        assert syncing.backlog(connection) == (0, 0.0)
    claim = ledger.claim(job.id, job.uid, 1, 1, "pod", LEASE)
    with writer.transaction() as connection:
        assert reports.record(connection, job, AttemptReport(1, 1, "NodeLost"))
        assert syncing.end_attempt(connection, job, 1, Failure("NodeLost"))
        assert syncing.fail_job(connection, job, Failure("NodeLost"))
    assert claim is not None
    assert ledger.prune(9, older_than_seconds=0.0, which=JobFilter(runner="kubernetes")) == 1
    writer.close()
    writer.engine.dispose()


def test_a_pod_reads_which_jobs_are_paused(urls: Urls) -> None:
    ledger = SqlLedger(create_engine(urls[Process.JOBS]))
    assert not ledger.limits.shut()
    ledger.engine.dispose()


def test_a_reader_reads(role_urls: Urls) -> None:
    ledger = opened(role_urls[Process.APPLICATION])
    job = ledger.insert(new_job())
    reading = opened(role_urls[Process.READER])
    check_schema(reading.engine)
    assert [found.id for found in reading.list_jobs()] == [job.id]
    queries = Queries(reading.engine)
    assert queries.situation(job.id) is not None
    assert queries.reports(job.id) == ()
    assert queries.statistics(GroupedBy.TYPE, 60.0, ANY_JOB) is not None
    assert sum(queries.prunable(0.0, ANY_JOB).values()) == 0
    assert reading.backlog("legacy")["due"] == 1
    assert Outbox(reading.engine, "legacy").backlog()["due"] == 0
    for done in (ledger, reading):
        done.engine.dispose()


def test_a_command_under_the_role_of_jobs_says_which_one_it_needs(
    role_urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOKE_DATABASE_URL", role_urls[Process.JOBS])
    done = run_command(["events"])
    assert done.exit_code == 1
    assert "permission denied for table job_event. Commands that only read need the database role `reader`" in (
        " ".join(done.stderr.split())
    )


_NO_READER = (
    "INSERT INTO job_request (payload, queue_name, job_type) VALUES ('', '', '')",
    "UPDATE job_request SET status = 1",
    "DELETE FROM job_request",
    "DELETE FROM job_attempt",
    "DELETE FROM queue_lock",
    "DELETE FROM job_checkpoint",
    "DELETE FROM task_outbox",
    "DELETE FROM task_replica",
    "INSERT INTO job_event (at, action) VALUES (now(), 'cancel')",
    "DELETE FROM job_event",
    "DELETE FROM notice_outbox",
    "SELECT nextval('job_request_id_seq')",
)


@pytest.mark.parametrize(
    ("process", "refused"),
    [
        (Process.APPLICATION, NOBODY),
        (Process.JOBS, NOBODY + NO_JOB),
        (Process.READER, NOBODY + _NO_READER),
    ],
)
def test_the_rest_is_refused(urls: Urls, process: Process, refused: tuple[str, ...]) -> None:
    engine = create_engine(urls[process])
    allowed = [statement for statement in refused if not _is_refused(engine, statement)]
    engine.dispose()
    assert allowed == []


def _is_refused(engine: Engine, statement: str) -> bool:
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
            connection.rollback()
    except DBAPIError as error:
        return getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE
    return False


def test_the_roles_have_exactly_what_their_processes_need(
    shared_postgres_ledger_url: str, ledger_roles: dict[Process, str]
) -> None:
    engine = create_engine(shared_postgres_ledger_url)
    found = migrations.differences(engine, ledger_roles)
    engine.dispose()
    migrating = found.pop(ledger_roles[Process.MIGRATIONS])
    assert migrating.excess == ()
    (lacking,) = migrating.lacking  # the tests' own role has created them
    assert lacking == "does not own the ledger's tables"
    assert set(found.values()) == {Comparison()}


class TestGrants:
    """`spoke-jobs migrate --grants`."""

    @pytest.fixture(autouse=True)
    def _no_logs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The command sets up the logs of its process, which here would outlive the command's standard error."""
        monkeypatch.setattr(log_setup, "configure_logging", lambda: None)

    @pytest.fixture
    def role(self, postgres_url: str, postgres_ledger_url: str) -> Iterator[str]:
        name = str(make_url(postgres_ledger_url).database).replace("test_", "test_grantee_")
        admin = plain_engine(postgres_url, isolation_level="AUTOCOMMIT")
        owner = plain_engine(postgres_ledger_url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD '{name}' ROLE CURRENT_USER"))
        yield name
        with owner.connect() as connection:
            connection.execute(text(f"DROP OWNED BY {name}"))
            connection.execute(text(f"DROP ROLE {name}"))
        owner.dispose()
        admin.dispose()

    def test_they_are_applied_and_only_printed_with_a_dry_run(
        self,
        postgres_ledger_url: str,
        role: str,
        ledger_roles: dict[Process, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("SPOKE_DATABASE_URL", postgres_ledger_url)
        dry = run_command(["migrate", "--grants", f"jobs={role}", "--dry-run"])
        assert f'GRANT SELECT ON TABLE "public"."spoke_jobs_version" TO "{role}";' in dry.stdout
        engine = create_engine(postgres_ledger_url)
        (before,) = migrations.differences(engine, {Process.JOBS: role}).values()
        assert "may not SELECT job_request" in before.lacking
        done = run_command(["migrate", "--grants", f"jobs={role}"])
        assert (done.exit_code, done.stderr) == (0, "")
        assert f"the role {role} has the privileges that it needs, and no others" in done.stdout
        # What it has from elsewhere is said, and taken away where that is possible.
        with engine.begin() as connection:
            connection.exec_driver_sql("GRANT CREATE ON SCHEMA public TO PUBLIC")  # as before PostgreSQL 15
            connection.exec_driver_sql(f"GRANT ALL ON job_request TO {role}")
            connection.exec_driver_sql(f"GRANT {ledger_roles[Process.APPLICATION]} TO {role}")
        again = run_command(["migrate", "--grants", f"jobs={role}"])
        assert again.exit_code == 0
        assert f"error: the role {role} may DELETE job_request\n" in again.stderr
        assert "TRUNCATE" not in again.stderr
        assert "may create tables" not in again.stderr
        with engine.begin() as connection:
            connection.exec_driver_sql(f"REVOKE {ledger_roles[Process.APPLICATION]} FROM {role}")
        assert migrations.differences(engine, {Process.JOBS: role}) == {role: Comparison()}
        engine.dispose()

    @pytest.mark.parametrize(
        ("grants", "said"),
        [
            (["pods=shop"], "'pods=shop' names none of migrations, application, jobs, reader"),
            (["jobs"], "names no role: write jobs=ROLE"),
            (["jobs=a", "jobs=b"], "names two roles for jobs"),
            (["jobs=a", "reader=a"], "names one role for two processes"),
        ],
    )
    def test_mistakes_are_named(self, grants: list[str], said: str) -> None:
        arguments = [word for item in grants for word in ("--grants", item)]
        done = run_command(["migrate", *arguments], env={"COLUMNS": "400"})
        assert done.exit_code == 2
        assert said in " ".join(done.stderr.split())


class TestCheck:
    """`spoke-jobs check --role`."""

    @pytest.fixture
    def check(self, urls: Urls, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
        def run(process: Process, *arguments: str) -> Result:
            monkeypatch.setenv("SPOKE_DATABASE_URL", urls[process])
            return run_command(["check", *arguments])

        return run

    @pytest.mark.parametrize("process", [Process.APPLICATION, Process.JOBS, Process.READER])
    def test_who_has_just_what_it_needs_passes(self, check: Callable[..., Result], process: Process) -> None:
        done = check(process, "--role", process)
        assert (done.exit_code, done.stderr) == (0, "")
        assert f"exactly the privileges that {process} needs" in done.stdout

    def test_another_role_is_checked_by_its_name(
        self, check: Callable[..., Result], ledger_roles: dict[Process, str]
    ) -> None:
        name = ledger_roles[Process.APPLICATION]
        done = check(Process.READER, "--role", f"jobs={name}", "--json")
        assert done.exit_code == 1
        (role,) = json.loads(done.stdout)["roles"]
        assert (role["role"], role["process"], role["lacking"]) == (name, "jobs", [])
        assert "may DELETE job_request" in role["excess"]
        assert check(Process.READER, "--role", "jobs=nobody-here").exit_code == 1

    def test_one_role_for_everything_is_said_and_no_error(
        self, shared_postgres_ledger_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPOKE_DATABASE_URL", shared_postgres_ledger_url)
        done = run_command(["check"])
        assert (done.exit_code, done.stderr) == (0, "")
        name = make_url(shared_postgres_ledger_url).username
        assert f"role  {name}: has CREATEROLE, CREATEDB; may create tables in the schema public; " in done.stdout
        assert "so it may alter and drop them" in done.stdout
        required = run_command(["check", "--role", "jobs"])
        assert required.exit_code == 1
        assert f"error: the database role {name} owns the ledger's tables" in required.stderr


def test_each_ledger_has_an_identity_that_all_its_processes_see(
    role_urls: Urls, postgres_ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(url: str, *before: str) -> str:
        engine = create_engine(url)
        try:
            with engine.begin() as connection:
                for statement in before:
                    connection.exec_driver_sql(statement)
                return limit_rows.ledger_identity(connection)
        finally:
            engine.dispose()

    own = identity(role_urls[Process.APPLICATION])
    assert len(own) == 16
    assert own == identity(role_urls[Process.READER]) == identity(postgres_ledger_url)
    tables = ("CREATE SCHEMA second", "CREATE TABLE second.job_limit (id bigint)", "SET LOCAL search_path = second")
    second = identity(postgres_ledger_url, *tables)
    # A server that forbids pg_control_system, as each one forbids this function.
    forbidden = limit_rows._PLACE.replace("pg_control_system()", "pg_read_file(text)")
    monkeypatch.setattr(limit_rows, "_PLACE", forbidden)
    by_names = identity(role_urls[Process.APPLICATION])
    assert len({own, second, by_names}) == 3, (own, second, by_names)
