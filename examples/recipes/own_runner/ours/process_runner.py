"""A runner that starts a process for every job and a thread for every task. JOB_RUNNER=ours.process_runner"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import cache
from typing import Any

from sqlalchemy.orm import Session

from spoke_jobs import JobData, JobRequest, registry
from spoke_jobs.ledger.after_commit import after_commit, connection_of, plain_session
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.lifecycle.inserts import insert_jobs
from spoke_jobs.ledger.rows import read_job
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.runners.legacy_runner import LocalTask, run_task
from spoke_jobs.runners.prepare import prepare_job, prepare_task

ledger = cache(lambda: SqlLedger(create_engine(os.environ["SPOKE_DATABASE_URL"])))
sessions = lambda: Session(ledger().engine)  # noqa: E731 (a task's ctx.session)


def fully_configured() -> bool:
    """Whether all settings are set, including those of the child processes."""
    return bool(os.environ.get("SPOKE_DATABASE_URL") and os.environ.get("SPOKE_APP"))


def dispatch_job(job_data: JobData, *, session: Session | None = None) -> JobRequest:
    """Record a job, and start its process after the commit."""
    new = prepare_job(job_data, registry.default, runner=__name__)
    if session is None:
        job = ledger().insert(new)
        launch(job)
    else:  # in the caller's transaction, which is committed once another connection sees the row
        session = plain_session(session)
        (job,) = insert_jobs(connection_of(session), [new])
        after_commit(session, lambda: ledger().get(job.id) is not None, lambda: launch(job))
    return job


def launch(job: JobRequest) -> None:
    """Start a process that outlives this one."""
    subprocess.Popen([sys.executable, "-m", "ours.run_one", str(job.id)], start_new_session=True)


def get_job(job_id: int, *, session: Session | None = None) -> JobRequest | None:
    """Read a job; with a session, in the caller's transaction."""
    return ledger().get(job_id) if session is None else read_job(connection_of(plain_session(session)), job_id)


def dispatch_task(name: str, payload: Any = None, *, session: Session | None = None) -> None:
    """Run a task in a thread. With a session, run it after the session's commit."""
    definition, text = prepare_task(name, payload, registry.default)
    task = LocalTask(definition, definition.name, text)
    thread = threading.Thread(target=run_task, args=(task, sessions))
    after_commit(plain_session(session), lambda: True, thread.start) if session is not None else thread.start()
