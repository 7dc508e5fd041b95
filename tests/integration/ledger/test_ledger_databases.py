"""A database that tests use one after another is to each of them as a new one (tests/ledger_databases.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_one, new_job
from tests.ledger_databases import LedgerDatabases

from spoke_jobs.ledger.engine import create_engine


@pytest.fixture
def databases(postgres_url: str, _migrated_template: str) -> Iterator[LedgerDatabases]:
    made = LedgerDatabases(postgres_url, _migrated_template)
    yield made
    made.close()


def oid(url: str) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT oid FROM pg_database WHERE datname = current_database()")).scalar_one()
    engine.dispose()
    assert isinstance(found, int)
    return found


def test_the_next_test_gets_it_empty_and_counts_from_one(databases: LedgerDatabases) -> None:
    kept = []
    for _ in range(2):
        with databases.lent() as url:
            kept.append(oid(url))
            for ledger in open_ledger(url):
                first = ledger.insert(new_job(queue_name="q", locks_queue=True))
                ledger.insert(new_job(queue_name="q", after=(first.id,)))
                assert first.id == 1
                assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is not None
    assert kept[0] == kept[1]


def test_what_a_test_left_running_can_not_connect_to_the_next_one_s(databases: LedgerDatabases) -> None:
    with databases.lent() as url:
        before, engine = oid(url), create_engine(url)
        connection = engine.connect()
    with databases.lent() as following:
        assert oid(following) == before
        with pytest.raises(OperationalError, match="terminating connection|server closed"):
            connection.execute(text("SELECT 1"))
        connection.close()
        with pytest.raises(OperationalError, match="does not exist"):
            engine.connect()
    engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE other (id int)",
        "GRANT SELECT ON job_request TO PUBLIC",
        "CREATE FUNCTION other() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "UPDATE spoke_jobs_version SET version_num = '0001'",
        "VACUUM job_request",
        'ALTER DATABASE "{name}" SET work_mem = 64',
        'GRANT CREATE ON DATABASE "{name}" TO PUBLIC',
        "INSERT INTO notice_seen SELECT repeat('c', 400) || n, n, n, now() FROM generate_series(1, 3000) AS n",
    ],
)
def test_one_that_was_changed_is_not_used_again(databases: LedgerDatabases, statement: str) -> None:
    with databases.lent() as url:
        before, engine = oid(url), create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement.format(name=engine.url.database)))
        engine.dispose()
    with databases.lent() as following:
        assert oid(following) != before
