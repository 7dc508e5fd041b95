"""Dispatch jobs and a task, one job in a transaction that is rolled back: `python app.py FILE`."""

from __future__ import annotations

import os
import sys

import jobs  # noqa: F401 (declares them)
from sqlalchemy.orm import Session

from spoke_jobs import JobData, configure, dispatch_job, dispatch_task
from spoke_jobs.ledger.engine import create_engine

configure()
print(os.getpid())
with Session(create_engine(os.environ["SPOKE_DATABASE_URL"])) as session:
    dispatch_job(JobData("measure", [1, 2, 3]), session=session)
    dispatch_task("note", sys.argv[1], session=session)
    session.commit()
    dispatch_job(JobData("measure", [4, 5, 6]), session=session)
    dispatch_task("note", f"{sys.argv[1]}-never", session=session)
    session.rollback()
dispatch_job(JobData("measure", []))
