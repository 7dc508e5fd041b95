"""A runner of one's own: every job gets a process at once, and every task a thread. JOB_RUNNER=ours.process_runner"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from functools import cache
from typing import Any

from sqlalchemy.orm import Session

from spoke_jobs import JobData, JobRequest, registry
from spoke_jobs.ledger.after_commit import after_commit, connection_of, plain_session
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.inserts import insert_job
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.runners.legacy_runner import run_task
from spoke_jobs.runners.prepare import prepare_job, prepare_task

ledger = cache(lambda: SqlLedger(create_engine(os.environ["SPOKE_DATABASE_URL"])))
sessions = lambda: Session(ledger().engine)  # noqa: E731 (a task's ctx.session)


def fully_configured() -> bool:
    """Whether what is needed is there, for the children too."""
    return bool(os.environ.get("SPOKE_DATABASE_URL") and os.environ.get("SPOKE_APP"))


def dispatch_job(job_data: JobData, *, session: Session | None = None) -> JobRequest:
    """Record a job; once that is committed, start its process."""
    new = prepare_job(job_data, registry.default, runner=__name__)
    if session is None:
        job = ledger().insert(new)
        launch(job)
    else:  # in the caller's transaction; that it is committed shows in that others see the row
        session = plain_session(session)
        job = insert_job(connection_of(session), new)
        after_commit(session, lambda: ledger().get(job.id) is not None, lambda: launch(job))
    return job


def launch(job: JobRequest) -> None:
    """Start it, and leave it alone: it outlives this process."""
    subprocess.Popen([sys.executable, "-m", "ours.run_one", str(job.id)], start_new_session=True)


def dispatch_task(name: str, payload: Any = None, *, session: Session | None = None) -> None:
    """Run a task beside the caller; with a session, once that is committed."""
    definition, text = prepare_task(name, payload, registry.default)
    thread = threading.Thread(target=run_task, args=(definition, text, uuid.uuid4().hex, sessions))
    after_commit(plain_session(session), lambda: True, thread.start) if session is not None else thread.start()
