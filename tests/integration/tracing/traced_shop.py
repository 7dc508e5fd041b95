"""An application with a web server, a job that fails once, and a task that its second attempt dispatches."""

from __future__ import annotations

import sys
from typing import Any

from spoke_jobs import JobData, RetryPolicy, configure, dispatch_job, dispatch_task, job, task


@job("import_contacts", retry=RetryPolicy({"error": 2}, backoff_seconds=0))
def import_contacts(ctx: Any, payload: Any) -> None:
    if ctx.attempt == 1:
        raise ValueError("+15550100 is no number")
    dispatch_task("welcome", {"to": "+15550100"})


@job("durable_import", retry=RetryPolicy({"error": 2}, backoff_seconds=0))
def durable_import(ctx: Any, payload: Any) -> None:
    if ctx.attempt == 1:
        raise ValueError("+15550100 is no number")
    dispatch_task("welcome", {"to": "+15550100"}, session=ctx.session)


@job("aimport_contacts", retry=RetryPolicy({"error": 2}, backoff_seconds=0))
async def aimport_contacts(ctx: Any, payload: Any) -> None:
    import_contacts(ctx, payload)


@task("welcome")
async def welcome(ctx: Any, payload: Any) -> None:
    ctx.logger.info("welcome")


def upload(job_type: str) -> int:
    """A request to the web server, which dispatches a job. Return the job's id."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient
    from opentelemetry import trace

    web = FastAPI()

    @web.post("/upload")
    def handle() -> int:
        with trace.get_tracer("web").start_as_current_span("upload"):
            return dispatch_job(JobData(job_type, {"phone": "+15550100"})).id

    configure()
    with TestClient(web) as client:
        found: int = client.post("/upload").json()
        return found


if __name__ == "__main__":
    print(upload(sys.argv[1]))
