"""A plain WSGI application. `preload_app` imports it once, before the workers are forked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import jobs  # noqa: F401 (declares them)
from database import Base, Line, engine, sessions
from sqlalchemy import select
from sqlalchemy.orm import configure_mappers

from spoke_jobs import JobData, configure, dispatch_job, dispatch_task

configure()  # before the fork: a process that can't dispatch refuses to start, once for all workers
Base.metadata.create_all(engine)
# SQLAlchemy does this at first use. Where a thread of this process is the first (JOBS_SAME_PROCESS, TASKS_SYNC unset),
# a fork in the middle of it would leave the workers half of it, and its lock taken for ever.
configure_mappers()

# What a start-up may well do. The runner that it used is made anew in each worker.
with sessions() as session:
    dispatch_job(JobData("write", "before the fork"), session=session)
    dispatch_task("note", "before the fork", session=session)
    session.commit()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """POST / dispatches, and says which process it was; GET / lists what was left."""
    with sessions() as session:
        if environ["REQUEST_METHOD"] == "POST":
            dispatch_job(JobData("write", f"of {os.getpid()}"), session=session)
            dispatch_task("note", f"of {os.getpid()}", session=session)
            session.commit()
            answer: object = os.getpid()
        else:
            answer = [[line.text, line.process] for line in session.scalars(select(Line).order_by(Line.id))]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
