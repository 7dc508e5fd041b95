"""The plugin as pytest finds it: by its entry point, light, and restoring what was there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from spoke_jobs import JobData, configure, dispatch, dispatch_job, use_runner
from spoke_jobs.testing.dispatched import SpokeJobs

pytest_plugins = ["pytester"]

SUITE = """
import pytest
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, Table, Text, select
from sqlalchemy.orm import Session, sessionmaker
from spoke_jobs import JobData, configure, dispatch_job, dispatch_task, job, task
from spoke_jobs.ledger.engine import create_engine

metadata = MetaData()
contact = Table("contact", metadata, Column("id", Integer, primary_key=True), Column("name", Text))


class Import(BaseModel):
    name: str


@job("import", payload=Import)
def import_contact(ctx, payload):
    with ctx.complete({"loaded": 1}) as session:
        session.execute(contact.insert().values(name=payload.name))
        dispatch_task("tell", payload.name, session=session)


@task("tell")
def tell(ctx, payload):
    told.append(payload)


told = []


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    made = create_engine(f"sqlite:///{tmp_path_factory.mktemp('data')}/app.sqlite3")
    metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def connection(engine):
    with engine.connect() as connection:
        outer = connection.begin()
        yield connection
        outer.rollback()


@pytest.fixture
def spoke_jobs_sessions(connection):
    return sessionmaker(bind=connection, join_transaction_mode="create_savepoint")


@pytest.fixture
def session(connection):
    with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
        yield session


@pytest.mark.parametrize("name", ["Ada", "Grace"])
def test_import(spoke_jobs, session, name):
    configure()  # as an application's start-up does
    assert session.scalars(select(contact.c.name)).all() == []
    dispatch_job(JobData("import", Import(name=name)), session=session)
    session.commit()
    assert spoke_jobs.job("import").payload == Import(name=name)
    spoke_jobs.drain()
    assert session.scalars(select(contact.c.name)).all() == [name]
    assert spoke_jobs.task("tell").payload == name == told[-1]


def test_without_the_fixture_the_process_has_its_own_runner():
    with pytest.raises(Exception, match="SPOKE_DATABASE_URL"):
        dispatch_job(JobData("import", Import(name="nobody")))


def test_wrong(spoke_jobs):
    dispatch_job(JobData("import", Import(name="Ada")))
    assert spoke_jobs.job("export")
"""


def test_a_suite_of_an_application_s(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*AssertionError: no job 'export' was dispatched; there is: job 'import' (waiting)*"])


def test_the_fixtures_are_listed_with_what_they_are_for(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--fixtures", "-q")
    result.stdout.fnmatch_lines(["*spoke_jobs_sessions*pytest_plugin.py*", "*Override this fixture if jobs use*"])


def test_loading_the_plugin_loads_nothing_of_the_library(pytester: pytest.Pytester) -> None:
    """pytest loads it in every run of whoever has the library installed, before anybody's coverage has begun."""
    pytester.makepyfile(
        test_it="""
        import json, sys

        def test_it():
            names = [name for name in sys.modules if name.split(".")[0] in ("spoke_jobs", "sqlalchemy", "pydantic")]
            print("LOADED " + json.dumps(names))
        """
    )
    result = pytester.runpytest_subprocess("-s", "-p", "no:hypothesispytest", "-p", "no:cacheprovider")
    (told,) = [line for line in result.outlines if "LOADED " in line]
    loaded = json.loads(told.partition("LOADED ")[2])
    assert set(loaded) == {"spoke_jobs", "spoke_jobs.testing", "spoke_jobs.testing.pytest_plugin"}


def test_the_library_needs_no_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import spoke_jobs.testing.dispatched, spoke_jobs.testing.contexts, spoke_jobs.testing.event_loop"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# The process's runner


def test_afterwards_the_earlier_runner_is_there_again(spoke_jobs: SpokeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = SpokeJobs(spoke_jobs.runner.registry)
    with pytest.raises(LookupError), use_runner(inner.runner):
        dispatch_job(JobData("chain"))
        raise LookupError
    assert (len(inner.jobs()), len(spoke_jobs.jobs())) == (1, 0)
    assert dispatch.current_runner() is spoke_jobs.runner


def test_an_application_s_start_up_leaves_the_test_s_runner(spoke_jobs: SpokeJobs) -> None:
    assert configure() is spoke_jobs.runner
    other = SpokeJobs(spoke_jobs.runner.registry).runner
    assert configure(other) is other
    assert dispatch.current_runner() is other
    assert configure() is spoke_jobs.runner
