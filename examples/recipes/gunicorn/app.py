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

configure()  # before the fork: refuse to start with unusable settings, once for all workers
Base.metadata.create_all(engine)
# SQLAlchemy configures mappers at first use, under a lock. If a thread of this process does that during a fork, the
# workers inherit incomplete mappers and a lock that is never released. Configuring them here prevents that.
configure_mappers()

# A dispatch at start-up works. Each worker creates a runner of its own.
with sessions() as session:
    dispatch_job(JobData("write", "before the fork"), session=session)
    dispatch_task("note", "before the fork", session=session)
    session.commit()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """POST / dispatches, and returns the process id. GET / lists the stored lines."""
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
