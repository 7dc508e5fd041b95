"""A job's timeout counts from its function's start, however long its pod takes to import its code."""

from __future__ import annotations

from pathlib import Path

from tests.contract.ledger import new_job
from tests.pod_process import pod_environment, run_pod

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobOptions, JobState

TIMEOUT = 60.0
APP = f"""
import time
from spoke_jobs import job

@job("report", timeout_seconds={TIMEOUT})
def report(ctx, payload: dict):
    return ctx.remaining_seconds

time.sleep(1)  # a large application
"""


def test_the_import_of_the_application_does_not_count(postgres_ledger_url: str, tmp_path: Path) -> None:
    ledger = SqlLedger(create_engine(postgres_ledger_url))
    job = ledger.insert(new_job(runner="kubernetes", options=JobOptions(timeout_seconds=TIMEOUT)))
    (tmp_path / "slow_app.py").write_text(APP)
    done = run_pod(pod_environment(job, "slow_app", postgres_ledger_url, tmp_path))
    ended = ledger.get(job.id)
    ledger.engine.dispose()
    assert ended is not None
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1), done.stderr
    assert isinstance(ended.result, float)
    assert TIMEOUT - 1 < ended.result <= TIMEOUT, "the timeout has begun with the function"
