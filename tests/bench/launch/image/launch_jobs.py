"""What runs in the pods: as a job, and as a plain Job's own program that imports the same and reads one row."""

from __future__ import annotations

import os
import time

from spoke_jobs import JobContext, TaskContext, job, task


def began() -> float:
    """When this process began, in seconds since the epoch (proc(5): in ticks since the machine's start)."""
    with open("/proc/self/stat") as file:  # noqa: PTH123 (what is measured is to import as little as can be)
        ticks = int(file.read().rpartition(")")[2].split()[19])
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


@job("launch_first")
def first(_ctx: JobContext, _payload: None) -> dict[str, float]:
    """Say when the first line ran."""
    now = time.time()
    return {"first": now, "began": began()}


@job("launch_short")
def short(_ctx: JobContext, _payload: None) -> None:
    """Take a tenth of a second."""
    time.sleep(0.1)


@task("launch_nothing")
def nothing(_ctx: TaskContext, _payload: None) -> None:
    """The application's task deployment needs one to start."""


def plain(request_id: int) -> None:
    """The same without the runner: one row is read, by the same driver."""
    import psycopg

    url = os.environ["SPOKE_DATABASE_URL"].replace("+psycopg", "", 1)
    with psycopg.connect(url) as connection:
        connection.execute("SELECT * FROM job_request WHERE id = %s", (request_id,)).fetchone()
        print(f"FIRST {time.time()}", flush=True)
