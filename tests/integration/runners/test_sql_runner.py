"""What the SQL runners share: a forked process, as a prefork web server makes them, starts with nothing open.

On PostgreSQL: SQLite itself forbids a process to fork with a database open."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.contract.app import metadata
from tests.waiting import patient

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobState

FORKING = """
import os
from spoke_jobs import JobData, configure, dispatch_job, dispatch_task
from tests.contract.app import registry

runner = configure(registry=registry)
dispatch_job(JobData("record", {"text": "parent"}))
runner.finish_tasks()
child = os.fork()
dispatch_job(JobData("record", {"text": "child" if child == 0 else "parent again"}))
runner.close()
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_parent_and_child_both_dispatch_and_run(postgres_ledger_url: str) -> None:
    engine = create_engine(postgres_ledger_url)
    metadata.create_all(engine)
    environment = os.environ | {"SPOKE_DATABASE_URL": postgres_ledger_url, "JOBS_SAME_PROCESS": "true"}
    subprocess.run([sys.executable, "-c", FORKING], env=environment, check=True, timeout=patient(60))
    jobs = SqlLedger(engine).list_jobs()
    engine.dispose()
    assert sorted(job.result["said"] for job in jobs) == ["child", "parent", "parent again"]
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}


CLOSING = """
import os
from spoke_jobs import Registry
from spoke_jobs.loader import load_runner
from spoke_jobs.settings import load_settings

runner = load_runner(load_settings(), Registry())
assert runner.ledger.get(1) is None
child = os.fork()
if child == 0:
    runner.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert runner.ledger.get(1) is None
"""


@pytest.mark.parametrize("name", ["legacy", "kubernetes"])
def test_a_child_that_closes_its_copy_leaves_its_parent_alone(postgres_ledger_url: str, name: str) -> None:
    settings = {"SPOKE_DATABASE_URL": postgres_ledger_url, "JOB_RUNNER": name, "SPOKE_SUBMIT": "sync"}
    environment = os.environ | settings | {"SPOKE_NAMESPACE": "jobs"}
    subprocess.run([sys.executable, "-c", CLOSING], env=environment, check=True, timeout=patient(60))
