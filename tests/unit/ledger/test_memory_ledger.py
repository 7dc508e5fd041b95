"""What the ledger in memory has beside the SQL ledger's contract: a database of its own, and reserved jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from tests.contract.ledger import LEASE, new_job

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger import memory_ledger
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.model import JobState

IN_A_SCHEMA = """
from spoke_jobs import JobData, Registry
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings

registry = Registry()
registry.job("report")(lambda ctx: ctx.attempt)
for _ in range(2):
    runner = MemoryRunner(Settings(), registry)
    runner.dispatch_job(JobData("report"))
    assert [job.result for job in runner.drain()] == [1]
    del runner
"""


def test_each_ledger_has_its_own_jobs_and_clock() -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    one, other = MemoryLedger(), MemoryLedger(lambda: later)
    job = other.insert(new_job(run_after=later - timedelta(hours=1)))
    assert (one.all_jobs(), other.all_jobs()) == ([], [job])
    assert abs(job.created_at - later) < timedelta(milliseconds=1)
    assert [claim.job.id for claim in other.claim_batch("legacy", ["report"], "w", LEASE)] == [job.id]


def test_threads_take_turns() -> None:
    ledger = MemoryLedger()
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda _: ledger.insert(new_job()).id, range(64)))
    assert sorted(written) == [job.id for job in ledger.all_jobs()] == list(range(1, 65))


def test_a_reserved_job_has_the_id_that_it_gets() -> None:
    ledger = MemoryLedger()
    first = ledger.reserve(new_job())
    second = ledger.reserve(new_job(after=(first.job.uid,)), [first])
    same = ledger.reserve(new_job(unique_key="k"))
    again = ledger.reserve(new_job(unique_key="k", payload='"new"', on_conflict="replace"), [first, second, same])
    assert ledger.all_jobs() == []
    assert second.job.state is JobState.BLOCKED
    assert (again.job.id, again.job.payload) == (same.job.id, '"new"')
    beside = ledger.insert(new_job())
    for one in (first, second, same, again):
        ledger.publish(one)
    found = {job.id: job for job in ledger.all_jobs()}
    assert sorted([first.job.id, second.job.id, same.job.id, beside.id]) == sorted(found)
    assert [found[first.job.id].uid, found[second.job.id]] == [first.job.uid, second.job]
    assert found[same.job.id].payload == '"new"'
    for one in (first, second):
        ledger.withdraw(one)
    assert {job.id for job in ledger.all_jobs()} == {same.job.id, beside.id}


def test_an_sqlite_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 34, 1))
    memory_ledger._template.cache_clear()
    with pytest.raises(ConfigurationError, match=r"SQLite 3\.36 or newer, and this Python has 3\."):
        MemoryLedger()


def test_it_needs_no_close_and_knows_the_schema_of_production() -> None:
    """An unclosed connection would be a ResourceWarning of Python 3.13, in the application's tests."""
    env = os.environ | {"SPOKE_SCHEMA": "jobs"}
    subprocess.run([sys.executable, "-W", "error", "-c", IN_A_SCHEMA], check=True, env=env)
