"""The command line beside locks, a database that goes away, and whoever reads it, on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_one, new_job
from tests.contract.terminal import spoke_jobs

from spoke_jobs.ledger.sql_ledger import SqlLedger


@pytest.fixture
def url(postgres_ledger_url: str) -> str:
    return postgres_ledger_url


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    yield from open_ledger(url)


def test_looking_waits_for_no_lock(url: str, ledger: SqlLedger) -> None:
    for _ in range(2):
        ledger.insert(new_job(queue_name="q", locks_queue=True))
    assert claim_one(ledger, "legacy", ["report"], "host:1", LEASE) is not None
    with ledger.engine.begin() as connection:  # as a job's long transaction does
        connection.execute(text("SELECT * FROM job_request, job_attempt, queue_lock FOR UPDATE"))
        connection.execute(text("UPDATE job_request SET status = 50"))
        for command in (("ls",), ("show", 1), ("why", 1), ("why", 2)):
            with spoke_jobs(url, *command) as shown:
                assert shown.ended() == 0, shown.text


def test_it_outlasts_a_database_that_goes_away(url: str, ledger: SqlLedger, postgres_url: str) -> None:
    ledger.insert(new_job())
    name = ledger.engine.url.database
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection, spoke_jobs(url, "watch") as watch:
        watch.wait_for("waiting")
        connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
        ended = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
        connection.execute(ended, {"name": name})
        watch.wait_for("the database does not answer; retrying")
        connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
        claim = claim_one(ledger, "legacy", ["report"], "host:1", LEASE)
        assert claim is not None
        ledger.succeed(None, claim.token, None)
        assert watch.ended() == 0, watch.text
        assert watch.text.count("does not answer") == 1
    admin.dispose()


def test_whoever_reads_may_have_enough(url: str, ledger: SqlLedger) -> None:
    ledger.insert_many([new_job() for _ in range(5000)])
    command = f"set -o pipefail; {sys.executable} -m spoke_jobs ls --limit 5000 | head -1"
    done = subprocess.run(
        ["bash", "-c", command],
        env={"SPOKE_DATABASE_URL": url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("5000\treport\t")
