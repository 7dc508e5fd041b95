"""The lanes `standby` and `worker` beside plain Jobs: one launch at a time, and many short jobs at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tests.bench.launch.figures import PLAIN, STANDBY, WORKER
from tests.bench.launch.paired import PlainJobs, first_line, launch_registry
from tests.bench.launch.place import free_standby_pods, until
from tests.e2e.conftest import Product

from spoke_jobs import JobData
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

KEPT = 2
"""How many standby pods wait."""
SHORT_SECONDS = 0.1
_FREE = "jobs.spoke.dev/standby=true,jobs.spoke.dev/spokejob="
_PATIENCE_SECONDS = 1800


@dataclass
class Lanes:
    """Seconds, launch by launch."""

    to_first_line: dict[str, list[float]] = field(default_factory=lambda: {STANDBY: [], WORKER: [], PLAIN: []})
    missed: int = 0
    """Jobs of the lane `standby` that got a pod of their own, although standby pods waited. They are not measured."""
    short: dict[str, float] = field(default_factory=dict)
    """From the commit, or the first creation, until the last short job has ended."""
    idle_mib: float = 0.0
    """The memory of a standby pod that waits, as the kubelet counts it."""


def measure(product: Product, metrics: int, count: int, short: int, report: Callable[[str], None]) -> Lanes:
    """So many launches of each kind, and then so many short jobs of each kind.

    :param metrics: the port of the operator's metrics.
    """
    found = Lanes()
    runner = product.runner(launch_registry())
    jobs = PlainJobs(product)
    order = [kind for kind in found.to_first_line for _ in range(count)]
    random.Random(7).shuffle(order)

    def launch(kind: str, into: Lanes) -> None:
        # Whatever is measured, nothing else starts meanwhile.
        until("standby pods wait", lambda: free_standby_pods(metrics) >= KEPT, 120)
        if kind == PLAIN:
            into.to_first_line[kind].append(jobs.launch(kind))
            return
        lane = {STANDBY: "standby", WORKER: "worker"}[kind]
        row, seconds = first_line(product, runner, JobData("launch_first", lane=lane))
        if kind == STANDBY and product.spokejob(row)["status"]["attempts"][0].get("lane") != "standby":
            into.missed += 1
        else:
            into.to_first_line[kind].append(seconds)

    try:
        for kind in found.to_first_line:
            launch(kind, Lanes())  # the first of each finds nothing warm
        for number, kind in enumerate(order, 1):
            launch(kind, found)
            report(f"launch {number} of {len(order)}")
        found.idle_mib = _idle_mib(product)
        report(f"{short} short jobs in the worker")
        found.short[WORKER] = _short_in_the_worker(product, runner, short)
        report(f"{short} short plain Jobs")
        found.short[PLAIN] = jobs.many(short, SHORT_SECONDS, _PATIENCE_SECONDS)
    finally:
        runner.close()
    return found


def _short_in_the_worker(product: Product, runner: KubernetesRunner, count: int) -> float:
    """Return the seconds until the last one has ended, by the database's clock, which is this machine's."""
    with Session(product.engine) as session:
        for _ in range(count):
            runner.dispatch_job(JobData("launch_short", lane="worker"), session=session)
        committing = time.time()
        session.commit()
    which = (job_request.c.job_type == "launch_short", job_request.c.state == JobState.SUCCEEDED.value)
    ended = select(func.count(), func.max(job_request.c.finished_at)).where(*which)

    def look() -> Any:
        with product.engine.connect() as connection:
            number, last = connection.execute(ended).one()
        return last if number >= count else None

    return float(until("the short jobs have ended", look, _PATIENCE_SECONDS).timestamp()) - committing


def _idle_mib(product: Product) -> float:
    """Return the working set of a standby pod that waits."""
    pods = product.get("pods", "--selector", _FREE, "--field-selector=status.phase=Running")
    assert pods
    name = pods["items"][0]["metadata"]["name"]
    command = (  # in the control groups of version 2, or of version 1
        "cd /sys/fs/cgroup; if [ -e memory.current ];"
        " then cat memory.current; grep '^inactive_file ' memory.stat;"
        " else cat memory/memory.usage_in_bytes; grep '^total_inactive_file ' memory/memory.stat; fi"
    )
    used, _, inactive = product.kubectl("exec", name, "--container=job", "--", "sh", "-c", command).split()
    return (int(used) - int(inactive)) / 2**20
