"""The application of the picture of a trace: a request dispatches a job that fails once and then dispatches a task."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry import trace

from spoke_jobs import (
    JobContext,
    JobData,
    RetryPolicy,
    TaskContext,
    configure,
    dispatch_job,
    dispatch_task,
    job,
    task,
)


@job("import_contacts", retry=RetryPolicy({"error": 2}, backoff_seconds=0))
def import_contacts(ctx: JobContext, payload: Any) -> None:
    time.sleep(0.4)
    if ctx.attempt == 1:
        raise ConnectionError("the server with the files does not answer")
    time.sleep(0.3)
    dispatch_task("welcome", payload)
    time.sleep(0.1)


@task("welcome")
def welcome(_ctx: TaskContext, _payload: Any) -> None:
    time.sleep(0.25)


web = FastAPI()


@web.post("/upload")
def upload() -> str:
    """Dispatch the job. Return the id of the trace, whose first span FastAPI has begun."""
    dispatch_job(JobData("import_contacts", {"upload_id": 7}))
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)


async def request() -> str:
    """Send a request to the web server."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://shop") as client:
        found: str = (await client.post("/upload")).json()
        return found


if __name__ == "__main__":
    configure()
    sys.stdout.write(f"{asyncio.run(request())}\n")
