"""The database's password is rotated while a worker runs: its URL is in a file, which changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy import create_engine as plain_engine
from tests.conftest import as_role
from tests.contract.app import registry
from tests.preloaded import Program
from tests.waiting import eventually, patient

from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.model import JobData, JobState
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import Settings

USERS = text(
    "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = current_database() AND usename = ANY(:names)"
)
END = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :name")


@pytest.fixture
def admin(postgres_ledger_url: str) -> Iterator[Engine]:
    made = plain_engine(postgres_ledger_url, isolation_level="AUTOCOMMIT")
    yield made
    made.dispose()


@pytest.fixture
def logins(admin: Engine, ledger_roles: dict[Process, str]) -> Iterator[tuple[str, str]]:
    """Two members of the application's role, as docs/rotating.md has it."""
    group = ledger_roles[Process.APPLICATION]
    names = (f"{group}_a", f"{group}_b")
    with admin.connect() as connection:
        for name in names:
            connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD '{name}' IN ROLE {group}"))
    yield names
    with admin.connect() as connection:
        for name in names:
            connection.execute(text(f"DROP ROLE {name}"))


def test_a_worker_goes_on_with_the_new_role(
    postgres_ledger_url: str, admin: Engine, logins: tuple[str, str], tmp_path: Path
) -> None:
    before, after = logins
    file = tmp_path / "url"
    file.write_text(as_role(postgres_ledger_url, before))
    environment = {
        "SPOKE_DATABASE_URL_FILE": str(file),
        "SPOKE_APP": "tests.contract.app:registry",
        "SPOKE_POLL_SECONDS": "60",  # only a notification, or a new connection for them, makes it claim earlier
    }
    runner = LegacyRunner(Settings(database_url=SecretStr(postgres_ledger_url)), registry)

    def runs_a_job() -> None:
        job = runner.dispatch_job(JobData("bare"))

        def done() -> bool:
            found = runner.get_job(job.id)
            return found is not None and found.state is JobState.SUCCEEDED

        eventually(done, "the job succeeds")

    def users() -> list[str]:
        with admin.connect() as connection:
            return sorted(connection.scalars(USERS, {"names": list(logins)}))

    worker = Program("worker", ["-m", "spoke_jobs", "worker", "--processes", "1"], env=os.environ | environment)
    try:
        runs_a_job()
        assert users() == [before]
        file.write_text(as_role(postgres_ledger_url, after))
        with admin.connect() as connection:
            connection.execute(text(f"ALTER ROLE {before} NOLOGIN"))
            connection.execute(END, {"name": before})
        runs_a_job()
        assert users() == [after]
        worker.terminate()
        assert worker.wait(patient(60)) == 0
    finally:
        worker.kill()
        worker.wait()
        runner.close()
