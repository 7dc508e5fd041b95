"""A pod that was created before its job was paused or suspended does not call the job's function."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.ledger import new_job
from tests.pod_process import pod_environment
from tests.waiting import eventually, patient

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import parse_scope
from spoke_jobs.model import JobRequest, JobState

APP = """
import os, time
from pathlib import Path
from spoke_jobs import job

@job("report")
def report(ctx, payload: dict):
    return "called"

folder = Path(os.environ["FOLDER"])
(folder / "imports").touch()
while not (folder / "go on").exists():
    time.sleep(0.01)
"""
SCOPE = parse_scope("type:report")


def start(job: JobRequest, number: int, url: str, folder: Path) -> subprocess.Popen[str]:
    environment = pod_environment(job, "paused_app", url, folder, number=number) | {"FOLDER": str(folder)}
    command = [sys.executable, "-m", "spoke_jobs", "run"]
    return subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", ["paused while it imports the application", "suspended before it claims its job"])
def test_it_leaves_its_job_for_later(how: str, postgres_ledger_url: str, tmp_path: Path) -> None:
    (tmp_path / "paused_app.py").write_text(APP)
    ledger = SqlLedger(create_engine(postgres_ledger_url))
    job = ledger.insert(new_job(runner="kubernetes"))
    if how.startswith("suspended"):
        ledger.suspend(job.id, "the test")
    first = start(job, 1, postgres_ledger_url, tmp_path)
    eventually((tmp_path / "imports").exists, "the import")
    if how.startswith("paused"):
        ledger.limits.pause(SCOPE, "the test")
    (tmp_path / "go on").touch()
    _, errors = first.communicate(timeout=patient(180))
    assert first.returncode == ExitCode.HELD, errors
    left = ledger.get(job.id)
    assert left is not None
    causes = [attempt.cause for attempt in ledger.attempts(job.id)]
    assert (left.state, left.attempt, causes) == (JobState.WAITING, 1, ["StartPaused"])

    ledger.limits.resume(SCOPE)
    ledger.resume(job.id)
    second = start(job, 2, postgres_ledger_url, tmp_path)
    _, errors = second.communicate(timeout=patient(180))
    ended = ledger.get(job.id)
    ledger.engine.dispose()
    assert ended is not None
    assert (ended.state, ended.attempt, ended.result) == (JobState.SUCCEEDED, 2, "called"), errors
