"""Two applications in one PostgreSQL database: one in the default schema, one in the schema that it names.

Their processes run under the role of applications, which has no more privileges than they need.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from tests.preloaded import Program
from tests.waiting import eventually, patient

from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.notify import CHANNEL
from spoke_jobs.sync.writer import Writer

APP = "tests.integration.ledger.second_application"
FIRST, SECOND = "", "billing"
Take = Callable[..., list[Any]]
COUNT = "SELECT count(*) FROM {}"


@pytest.fixture
def engine(postgres_ledger_url: str) -> Iterator[Engine]:
    made = create_engine(postgres_ledger_url)
    yield made
    made.dispose()


def environment(url: str, schema: str) -> dict[str, str]:
    return os.environ | {
        "SPOKE_DATABASE_URL": url,
        "SPOKE_SCHEMA": schema,
        "SPOKE_APP": APP,
        "SPOKE_POLL_SECONDS": "60",  # a job starts at once only if its worker is notified
    }


@pytest.fixture
def url(role_urls: dict[Process, str]) -> str:
    return role_urls[Process.APPLICATION]


@pytest.fixture
def take(url: str, postgres_ledger_url: str, ledger_roles: dict[Process, str]) -> Take:
    """Takes steps in an application's process."""

    def run(schema: str, *steps: str) -> list[Any]:
        done = subprocess.run(
            [sys.executable, "-m", APP, *steps],
            env=environment(url, schema)
            | {"OWNER_URL": postgres_ledger_url}
            | {f"ROLE_{process}": name for process, name in ledger_roles.items()},
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(120),
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@contextmanager
def worker(url: str, schema: str) -> Iterator[None]:
    process = Program("worker", ["-m", "spoke_jobs", "worker", "--processes", "1"], env=environment(url, schema))
    try:
        yield
        process.terminate()
        assert process.wait(patient(60)) == 0
    finally:
        process.kill()
        process.wait()


def results(engine: Engine, table: str) -> list[tuple[str, str]]:
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT state, result FROM {table} WHERE runner = 'legacy'"))
        return [(state, result) for state, result in rows]


def all_done_by(schema: str, engine: Engine, table: str) -> bool:
    return results(engine, table) == [("succeeded", schema)] * 4


@pytest.mark.alone
def test_neither_takes_the_other_s_jobs_nor_is_woken_by_them(url: str, engine: Engine, take: Take) -> None:
    (migrated,) = take(SECOND, "migrate")
    assert migrated["first"] == ["BEGIN", 'CREATE SCHEMA "billing"', 'SET LOCAL search_path TO "billing"']
    assert (migrated["again"], migrated["found"]) == ([], [[], []])
    listening = psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(False))
    listening.autocommit = True
    with ExitStack() as stack:
        stack.enter_context(listening)
        for schema in (FIRST, SECOND):
            stack.enter_context(worker(url, schema))
        for channel in (CHANNEL, f"{CHANNEL}_billing"):
            listening.execute(f"LISTEN {channel}")
        # Both have jobs with the same numbers.
        (of_second,) = take(SECOND, "dispatch")
        woken = {notice.channel for notice in listening.notifies(timeout=0.5)}
        assert woken == {f"{CHANNEL}_billing"}
        (of_first,) = take(FIRST, "dispatch")
        assert {notice.channel for notice in listening.notifies(timeout=0.5)} == {CHANNEL}
        assert of_first == of_second
        assert of_first["ids"][2] == of_first["ids"][3], "one of the two that have a unique key"
        for schema, table in ((FIRST, "public.job_request"), (SECOND, "billing.job_request")):
            eventually(
                partial(all_done_by, schema, engine, table),
                f"the jobs of {table}",
                promised=True,  # sooner than by a poll
                state=partial(results, engine, table),
            )


def test_every_path_of_the_second_leads_to_its_own_tables(url: str, engine: Engine, take: Take) -> None:
    first = Writer(url)
    assert first.lead()
    _, operated = take(SECOND, "migrate", "operate")
    assert operated == {
        "leads": True,  # beside the first application's sync
        "pruned": 1,
        "waiting": True,
        "channels": ["spoke_jobs_billing", "spoke_tasks_billing"],
    }
    first.close()
    first.engine.dispose()
    tables = ("job_request", "job_attempt", "attempt_report", "queue_lock", "task_outbox")
    with engine.connect() as connection:
        assert [connection.scalar(text(COUNT.format(f"public.{table}"))) for table in tables] == [0] * 5
    take(SECOND, "downgrade")
    with engine.connect() as connection:
        kept = set(connection.scalars(text("SELECT table_schema FROM information_schema.tables WHERE table_name = "
                                           "'job_attempt'")))  # fmt: skip
    assert kept == {"public"}
