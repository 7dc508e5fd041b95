"""A database is given to the next test if the one before has left nothing in it, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy.engine import make_url
from tests.conftest import open_ledger
from tests.contract.ledger import new_job
from tests.databases import Databases


@pytest.fixture
def databases(postgres_url: str, _migrated_template: str) -> Iterator[Databases]:
    made = Databases(postgres_url, _migrated_template)
    yield made
    made.close()


def used(databases: Databases, *statements: str) -> str:
    """Use a database as a test does, and run the statements in it; gives its URL."""
    with databases.one() as url:
        for ledger in open_ledger(url):
            assert ledger.insert(new_job()).id == 1
            assert len(ledger.list_jobs(10)) == 1
        with connect(url) as connection:
            for statement in statements:
                connection.execute(statement)
    return url


def connect(url: str) -> psycopg.Connection[tuple[str, ...]]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


def test_rows_are_removed_and_numbers_begin_again(databases: Databases) -> None:
    rolled_back = ("BEGIN", "SELECT nextval('job_request_id_seq')", "ROLLBACK")
    first = used(databases)
    assert [used(databases, *rolled_back) for _ in range(3)] == [first] * 3


def test_two_at_once_are_two(databases: Databases) -> None:
    with databases.one() as one, databases.one() as two:
        assert one != two


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE other ()",
        "ALTER TABLE job_request ADD COLUMN other int",
        "ALTER TABLE job_request ALTER COLUMN state DROP NOT NULL",
        "CREATE INDEX other ON job_request (id)",
        "GRANT SELECT ON job_request TO PUBLIC",
        "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC",
        "ALTER DATABASE {database} SET lock_timeout = '1s'",
        "CREATE FUNCTION other() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA other",
        "UPDATE spoke_jobs_version SET version_num = 'other'",
        "ANALYZE job_request",
        "DROP TABLE spoke_jobs_version",
    ],
)
def test_whatever_else_is_left_another_database_is_given(databases: Databases, statement: str) -> None:
    with databases.one() as first, connect(first) as connection:
        connection.execute(statement.format(database=make_url(first).database))
    assert used(databases) != first


def test_somebody_is_still_connected(databases: Databases) -> None:
    with databases.one() as first:
        left = connect(first)
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")  # the database was dropped
    left.close()
    assert used(databases) != first
