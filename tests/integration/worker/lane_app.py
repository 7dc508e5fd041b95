"""The application of the tests of the lane `worker`."""

from __future__ import annotations

from spoke_jobs import Every, JobContext, job


@job("small", lane="worker")
def small(_ctx: JobContext) -> str:
    return "small"


@job("often", lane="worker", schedule=Every(seconds=3600))
def often(_ctx: JobContext) -> None: ...
