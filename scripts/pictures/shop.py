"""The application whose jobs the pictures show. The jobs only take time."""

from __future__ import annotations

import time

from pydantic import BaseModel

from spoke_jobs import JobContext, RetryPolicy, job

ROWS = 40_000


class Takes(BaseModel):
    """How long the job works."""

    seconds: float = 1.0


@job("import_contacts", payload=Takes, queue_name="7:contacts", locks_queue=True)
def import_contacts(ctx: JobContext, payload: Takes) -> dict[str, int]:
    _work(ctx, payload.seconds, "rows read")
    return {"loaded": ROWS}


@job("assign_texters", payload=Takes, queue_name="7:contacts", locks_queue=True)
def assign_texters(ctx: JobContext, payload: Takes) -> dict[str, int]:
    _work(ctx, payload.seconds, "assigned")
    return {"texters": 3, "assigned": ROWS}


@job("export", payload=Takes)
def export(ctx: JobContext, payload: Takes) -> dict[str, int]:
    _work(ctx, payload.seconds, "written")
    return {"rows": ROWS}


@job("send_report", payload=Takes, retry=RetryPolicy(backoff_seconds=2.0))
def send_report(ctx: JobContext, payload: Takes) -> None:
    ctx.progress(10, "looking for the address")
    time.sleep(payload.seconds)
    raise LookupError("organization 7 has no address for reports")


@job("make_thumbnails", payload=Takes, timeout_seconds=2.0)
def make_thumbnails(ctx: JobContext, payload: Takes) -> None:
    _work(ctx, payload.seconds, "drawn")


def _work(ctx: JobContext, seconds: float, what: str) -> None:
    steps = int(seconds * 4)
    for step in range(steps):
        ctx.progress(100 * step // steps, f"{ROWS * step // steps:,} of {ROWS:,} {what}")
        time.sleep(seconds / steps)
