"""A job's pod: what it logs, from when its timeout counts, and what it leaves for later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.ledger import new_job
from tests.pod_process import pod_environment, run_pod
from tests.waiting import eventually, patient

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import parse_scope
from spoke_jobs.model import JobOptions, JobRequest, JobState

LOGGING_APP = """
import logging, threading
from spoke_jobs import job

@job("report")
def report(ctx, payload: dict):
    ctx.logger.warning("by its logger")
    logging.getLogger("shop").warning("by another", extra={"ratio": float("nan")})
    thread = threading.Thread(target=logging.getLogger("shop").warning, args=("by a thread",))
    thread.start()
    thread.join()
    raise ValueError("no")
"""


def test_each_line_has_the_job(postgres_ledger_url: str, tmp_path: Path) -> None:
    ledger = SqlLedger(create_engine(postgres_ledger_url))
    job = ledger.insert(new_job(runner="kubernetes"))
    (tmp_path / "logging_app.py").write_text(LOGGING_APP)
    environment = pod_environment(job, "logging_app", postgres_ledger_url, tmp_path)
    done = run_pod(environment | {"SPOKE_LOG_FORMAT": "json"})
    ledger.engine.dispose()
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    messages = " ".join(line["message"] for line in lines)
    assert all(word in messages for word in ("started", "by its logger", "by another", "by a thread", "JobError"))
    assert {(line["request_id"], line["run"], line["attempt"]) for line in lines} == {(job.id, 1, 1)}, lines


TIMEOUT = 60.0
SLOW_APP = f"""
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
    (tmp_path / "slow_app.py").write_text(SLOW_APP)
    done = run_pod(pod_environment(job, "slow_app", postgres_ledger_url, tmp_path))
    ended = ledger.get(job.id)
    ledger.engine.dispose()
    assert ended is not None
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1), done.stderr
    assert isinstance(ended.result, float)
    assert TIMEOUT - 1 < ended.result <= TIMEOUT, "the timeout has begun with the function"


PAUSED_APP = """
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
    (tmp_path / "paused_app.py").write_text(PAUSED_APP)
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

    if how.startswith("paused"):
        ledger.limits.resume(SCOPE)
    else:
        ledger.resume(job.id)
    second = start(job, 2, postgres_ledger_url, tmp_path)
    _, errors = second.communicate(timeout=patient(180))
    ended = ledger.get(job.id)
    ledger.engine.dispose()
    assert ended is not None
    assert (ended.state, ended.attempt, ended.result) == (JobState.SUCCEEDED, 2, "called"), errors
