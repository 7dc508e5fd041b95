"""The migrations create exactly the tables of the code, on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys

from sqlalchemy import create_engine as plain_engine
from sqlalchemy import text
from sqlalchemy.engine import make_url
from tests.unit.ledger.test_migrations import differences, proposals

from spoke_jobs.ledger.engine import check_schema, create_engine


def test_no_difference(postgres_ledger_url: str) -> None:
    engine = create_engine(postgres_ledger_url)
    assert differences(engine) == []
    assert proposals(engine) == []
    engine.dispose()


def test_processes_that_start_together_migrate_one_after_the_other(postgres_url: str, postgres_ledger_url: str) -> None:
    name = f"{make_url(postgres_ledger_url).database}_empty"
    admin = plain_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    try:
        url = make_url(postgres_url).set(database=name)
        environment = os.environ | {"SPOKE_DATABASE_URL": url.render_as_string(hide_password=False)}
        command = [sys.executable, "-m", "spoke_jobs", "migrate"]
        together = [subprocess.Popen(command, env=environment) for _ in range(3)]
        assert [process.wait(60) for process in together] == [0, 0, 0]
        engine = create_engine(url)
        check_schema(engine)
        engine.dispose()
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        admin.dispose()
